#include "micro/kernels/mul.h"
#include "micro/kernels/variant.h"

#if NST_DSP

#include "micro/kernels/broadcast.h"
#include "micro/kernels/scale_dsp.h"

void nst_mul_run(const void *params, void *const *tensors, void *scratch) {
    const nst_mul_params *p = params;
    const int32_t n = -p->output_shift;
    if (n < 1 || n > 22) {
        nst_mul_portable(params, tensors, scratch);
        return;
    }
    const int32_t multiplier = p->output_multiplier;
    const int32_t self_zero_point = p->self_zero_point;
    const int32_t other_zero_point = p->other_zero_point;
    /* Half of what the shift drops, and the zero point where the shift brings it back. */
    const int32_t rounding = p->output_zero_point * (1 << n) + (1 << (n - 1));
    nst_broadcast walk = nst_broadcast_begin(p->elements, p->self_elements, p->other_elements);
    do {
        const int8_t *self = (const int8_t *)tensors[0] + walk.self;
        const int8_t *other = (const int8_t *)tensors[1] + walk.other;
        int8_t *output = (int8_t *)tensors[2] + walk.output;
#pragma GCC unroll 4
        for (uint32_t i = 0; i < walk.count; ++i) {
            const int32_t doubled = 2 * (self[i] - self_zero_point) * (other[i] - other_zero_point);
            /* A negative tie goes away from zero. */
            const int32_t scaled =
                nst_add_high_product(rounding + (doubled >> 31), doubled, multiplier) >> n;
            output[i] = (int8_t)nst_saturate_to_int8(scaled);
        }
    } while (nst_broadcast_next(&walk));
}

#endif
