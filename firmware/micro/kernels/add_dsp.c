#include "micro/kernels/add.h"
#include "micro/kernels/variant.h"

#if NST_DSP

#include "micro/kernels/add_operand.h"
#include "micro/kernels/broadcast.h"
#include "micro/kernels/scale_dsp.h"

/* One run of elements; tables of twice the rescaled operand, by its byte. `rounding` is half of
 * what the shift to the right by `n` drops, and the zero point where the shift brings it back. */
static void add_run_of(const int8_t *self, const int8_t *other, int8_t *output, uint32_t count,
                       const int32_t *self_table, const int32_t *other_table, int32_t multiplier,
                       int32_t rounding, int32_t n) {
#pragma GCC unroll 4
    for (uint32_t i = 0; i < count; ++i) {
        const int32_t doubled = self_table[(uint8_t)self[i]] + other_table[(uint8_t)other[i]];
        /* A negative tie goes away from zero. */
        const int32_t scaled =
            nst_add_high_product(rounding + (doubled >> 31), doubled, multiplier) >> n;
        output[i] = (int8_t)nst_saturate_to_int8(scaled);
    }
}

static void fill_table(int32_t *table, int32_t zero_point, int32_t multiplier, int32_t shift) {
    const nst_bounded_scale scale = nst_bounded_scale_of(multiplier, shift);
    for (int32_t q = INT8_MIN; q <= INT8_MAX; ++q) {
        const int32_t rescaled = nst_requantize_bounded((q - zero_point) * (1 << 20), scale);
        table[(uint8_t)q] = 2 * rescaled;
    }
}

/* As nst_add_portable, with doubled sums: the check keeps them below 2^31 where the output's shift
 * is to the right. */
void nst_add_run(const void *params, void *const *tensors, void *scratch) {
    const nst_add_params *p = params;
    const int32_t n = -p->output_shift;
    if (n < 1 || n > 22) {
        nst_add_portable(params, tensors, scratch);
        return;
    }
    int32_t *const self_table = scratch;
    int32_t *const other_table = self_table + 256;
    fill_table(self_table, p->self_zero_point, p->self_multiplier, p->self_shift);
    fill_table(other_table, p->other_zero_point, p->other_multiplier, p->other_shift);
    const int32_t rounding = p->output_zero_point * (1 << n) + (1 << (n - 1));
    nst_broadcast walk = nst_broadcast_begin(p->elements, p->self_elements, p->other_elements);
    do {
        add_run_of((const int8_t *)tensors[0] + walk.self, (const int8_t *)tensors[1] + walk.other,
                   (int8_t *)tensors[2] + walk.output, walk.count, self_table, other_table,
                   p->output_multiplier, rounding, n);
    } while (nst_broadcast_next(&walk));
    nst_dsp_clamp(tensors[2], p->elements, p->activation_min, p->activation_max);
}

#endif
