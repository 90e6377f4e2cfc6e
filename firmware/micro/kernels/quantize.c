#include "micro/kernels/quantize.h"

#include "micro/kernels/check.h"
#include "micro/kernels/rounding.h"
#include "micro/kernels/variant.h"

static bool check(const void *params, const uint32_t *tensor_bytes, uint32_t scratch_bytes) {
    (void)scratch_bytes;
    const nst_quantize_params *p = params;
    return p->elements != 0 && p->elements <= tensor_bytes[0] / sizeof(float) &&
           p->elements <= tensor_bytes[1] && nst_is_scale(p->inverse_scale) &&
           nst_is_int8(p->zero_point) && nst_are_bounds(p->quant_min, p->quant_max);
}

static uint32_t scratch_bytes(const void *params) {
    (void)params;
    return 0;
}

const nst_operator nst_operator_quantize = {
    .name = "quantize_per_tensor",
    .params_bytes = sizeof(nst_quantize_params),
    .tensors = 2,
    .check = check,
    .scratch_bytes = scratch_bytes,
    .run = nst_quantize_run,
};

void nst_quantize_portable(const void *params, void *const *tensors, void *scratch) {
    (void)scratch;
    const nst_quantize_params p = *(const nst_quantize_params *)params;
    const float *input = tensors[0];
    int8_t *output = tensors[1];
    for (uint32_t i = 0; i < p.elements; ++i) {
        output[i] =
            nst_round_to_int8(input[i] * p.inverse_scale, p.zero_point, p.quant_min, p.quant_max);
    }
}

#if !NST_MVE_FLOAT

void nst_quantize_run(const void *params, void *const *tensors, void *scratch) {
    nst_quantize_portable(params, tensors, scratch);
}

#endif
