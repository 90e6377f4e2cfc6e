#include "micro/kernels/activation.h"

#include "micro/kernels/variant.h"

static bool check(const void *params, const uint32_t *tensor_bytes, uint32_t scratch_bytes) {
    (void)scratch_bytes;
    const nst_activation_params *p = params;
    return p->elements != 0 && p->elements <= tensor_bytes[0] && tensor_bytes[1] >= 256 &&
           p->elements <= tensor_bytes[2];
}

static uint32_t scratch_bytes(const void *params) {
    (void)params;
    return 0;
}

const nst_operator nst_operator_activation = {
    .name = "quantized_activation",
    .params_bytes = sizeof(nst_activation_params),
    .tensors = 3,
    .check = check,
    .scratch_bytes = scratch_bytes,
    .run = nst_activation_run,
};

void nst_activation_portable(const void *params, void *const *tensors, void *scratch) {
    (void)scratch;
    const nst_activation_params *p = params;
    const int8_t *input = tensors[0];
    const int8_t *table = (const int8_t *)tensors[1] + 128;
    int8_t *output = tensors[2];
    const uint32_t elements = p->elements;
    for (uint32_t i = 0; i < elements; ++i) {
        output[i] = table[input[i]];
    }
}

#if !NST_MVE

void nst_activation_run(const void *params, void *const *tensors, void *scratch) {
    nst_activation_portable(params, tensors, scratch);
}

#endif
