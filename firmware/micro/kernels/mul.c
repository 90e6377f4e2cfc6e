#include "micro/kernels/mul.h"

#include "micro/kernels/bounded.h"
#include "micro/kernels/broadcast.h"
#include "micro/kernels/check.h"
#include "micro/kernels/requantize.h"
#include "micro/kernels/variant.h"

static bool check(const void *params, const uint32_t *tensor_bytes, uint32_t scratch_bytes) {
    (void)scratch_bytes;
    const nst_mul_params *p = params;
    return nst_broadcast_ok(p->elements, p->self_elements, p->other_elements, tensor_bytes) &&
           nst_is_int8(p->self_zero_point) && nst_is_int8(p->other_zero_point) &&
           nst_is_int8(p->output_zero_point) && nst_bounded_ok(255 * 255, p->output_shift);
}

static uint32_t scratch_bytes(const void *params) {
    (void)params;
    return 0;
}

const nst_operator nst_operator_mul = {
    .name = "quantized_mul",
    .params_bytes = sizeof(nst_mul_params),
    .tensors = 3,
    .check = check,
    .scratch_bytes = scratch_bytes,
    .run = nst_mul_run,
};

void nst_mul_portable(const void *params, void *const *tensors, void *scratch) {
    (void)scratch;
    const nst_mul_params p = *(const nst_mul_params *)params;
    const nst_bounded_scale scale = nst_bounded_scale_of(p.output_multiplier, p.output_shift);
    nst_broadcast walk = nst_broadcast_begin(p.elements, p.self_elements, p.other_elements);
    do {
        const int8_t *self = (const int8_t *)tensors[0] + walk.self;
        const int8_t *other = (const int8_t *)tensors[1] + walk.other;
        int8_t *output = (int8_t *)tensors[2] + walk.output;
        for (uint32_t i = 0; i < walk.count; ++i) {
            const int32_t product = (self[i] - p.self_zero_point) * (other[i] - p.other_zero_point);
            output[i] = nst_to_int8(nst_requantize_bounded(product, scale), p.output_zero_point,
                                    INT8_MIN, INT8_MAX);
        }
    } while (nst_broadcast_next(&walk));
}

#if !NST_MVE && !NST_DSP

void nst_mul_run(const void *params, void *const *tensors, void *scratch) {
    nst_mul_portable(params, tensors, scratch);
}

#endif
