#include "micro/kernels/add.h"

#include "micro/kernels/add_operand.h"
#include "micro/kernels/broadcast.h"
#include "micro/kernels/check.h"
#include "micro/kernels/requantize.h"
#include "micro/kernels/variant.h"

/* A(q) is monotone in q, so its values at both ends bound it. False where 32 bits do not hold one
 * of them. */
static bool operand_bound(int32_t zero_point, int32_t multiplier, int32_t shift, int64_t *low,
                          int64_t *high) {
    if (!nst_is_int8(zero_point) || !nst_bounded_ok((uint64_t)255 << 20, shift)) {
        return false;
    }
    const nst_bounded_scale scale = nst_bounded_scale_of(multiplier, shift);
    const int64_t a = nst_requantize_bounded((INT8_MIN - zero_point) * (1 << 20), scale);
    const int64_t b = nst_requantize_bounded((INT8_MAX - zero_point) * (1 << 20), scale);
    *low = a < b ? a : b;
    *high = a < b ? b : a;
    return true;
}

static uint64_t size_of(int64_t value) {
    return (uint64_t)(value < 0 ? -value : value);
}

static bool check(const void *params, const uint32_t *tensor_bytes, uint32_t scratch_bytes) {
    const nst_add_params *p = params;
    int64_t self_low, self_high, other_low, other_high;
    return scratch_bytes >= NST_ADD_SCRATCH_BYTES &&
           nst_broadcast_ok(p->elements, p->self_elements, p->other_elements, tensor_bytes) &&
           operand_bound(p->self_zero_point, p->self_multiplier, p->self_shift, &self_low,
                         &self_high) &&
           operand_bound(p->other_zero_point, p->other_multiplier, p->other_shift, &other_low,
                         &other_high) &&
           nst_bounded_ok(size_of(self_low + other_low), p->output_shift) &&
           nst_bounded_ok(size_of(self_high + other_high), p->output_shift) &&
           nst_is_int8(p->output_zero_point) &&
           nst_are_bounds(p->activation_min, p->activation_max);
}

static uint32_t scratch_bytes(const void *params) {
    (void)params;
    return NST_ADD_SCRATCH_BYTES;
}

const nst_operator nst_operator_add = {
    .name = "quantized_add",
    .params_bytes = sizeof(nst_add_params),
    .tensors = 3,
    .check = check,
    .scratch_bytes = scratch_bytes,
    .run = nst_add_run,
};

static void add_run_of(const nst_add_params *p, const int8_t *self, const int8_t *other,
                       int8_t *output, uint32_t count, const int32_t *self_table,
                       const int32_t *other_table) {
    const nst_bounded_scale scale = nst_bounded_scale_of(p->output_multiplier, p->output_shift);
    const int32_t zero_point = p->output_zero_point;
    const int32_t low = p->activation_min;
    const int32_t high = p->activation_max;
    for (uint32_t i = 0; i < count; ++i) {
        const int32_t sum = self_table[self[i]] + other_table[other[i]];
        output[i] = nst_to_int8(nst_requantize_bounded(sum, scale), zero_point, low, high);
    }
}

/* Rescaling an operand is a function of one int8: 256 values made at the start replace it for
 * every element. */
void nst_add_portable(const void *params, void *const *tensors, void *scratch) {
    const nst_add_params *p = params;
    int32_t *const self_table = (int32_t *)scratch + 128;
    int32_t *const other_table = self_table + 256;
    nst_add_fill(self_table, p->self_zero_point, p->self_multiplier, p->self_shift);
    nst_add_fill(other_table, p->other_zero_point, p->other_multiplier, p->other_shift);
    nst_broadcast walk = nst_broadcast_begin(p->elements, p->self_elements, p->other_elements);
    do {
        add_run_of(p, (const int8_t *)tensors[0] + walk.self,
                   (const int8_t *)tensors[1] + walk.other, (int8_t *)tensors[2] + walk.output,
                   walk.count, self_table, other_table);
    } while (nst_broadcast_next(&walk));
}

#if !NST_MVE && !NST_DSP

void nst_add_run(const void *params, void *const *tensors, void *scratch) {
    nst_add_portable(params, tensors, scratch);
}

#endif
