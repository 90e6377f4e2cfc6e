#include "micro/kernels/dequantize.h"

#include "micro/kernels/check.h"
#include "micro/kernels/variant.h"

static bool check(const void *params, const uint32_t *tensor_bytes, uint32_t scratch_bytes) {
    (void)scratch_bytes;
    const nst_dequantize_params *p = params;
    return p->elements != 0 && p->elements <= tensor_bytes[0] &&
           p->elements <= tensor_bytes[1] / sizeof(float) && nst_is_int8(p->zero_point) &&
           nst_is_scale(p->scale);
}

static uint32_t scratch_bytes(const void *params) {
    (void)params;
    return 0;
}

const nst_operator nst_operator_dequantize = {
    .name = "dequantize_per_tensor",
    .params_bytes = sizeof(nst_dequantize_params),
    .tensors = 2,
    .check = check,
    .scratch_bytes = scratch_bytes,
    .run = nst_dequantize_run,
};

void nst_dequantize_portable(const void *params, void *const *tensors, void *scratch) {
    (void)scratch;
    const nst_dequantize_params p = *(const nst_dequantize_params *)params;
    const int8_t *input = tensors[0];
    float *output = tensors[1];
    for (uint32_t i = 0; i < p.elements; ++i) {
        output[i] = (float)(input[i] - p.zero_point) * p.scale;
    }
}

#if !NST_MVE_FLOAT

void nst_dequantize_run(const void *params, void *const *tensors, void *scratch) {
    nst_dequantize_portable(params, tensors, scratch);
}

#endif
