#include "micro/kernels/div.h"

#include "micro/kernels/check.h"
#include "micro/kernels/rounding.h"

static bool check(const void *params, const uint32_t *tensor_bytes, uint32_t scratch_bytes) {
    (void)scratch_bytes;
    const nst_div_params *p = params;
    return p->elements != 0 && p->elements <= tensor_bytes[0] && p->elements <= tensor_bytes[1] &&
           p->elements <= tensor_bytes[2] && nst_is_int8(p->self_zero_point) &&
           nst_is_int8(p->other_zero_point) && nst_is_int8(p->output_zero_point) &&
           nst_is_scale(p->output_scale);
}

static uint32_t scratch_bytes(const void *params) {
    (void)params;
    return 0;
}

const nst_operator nst_operator_div = {
    .name = "quantized_div",
    .params_bytes = sizeof(nst_div_params),
    .tensors = 3,
    .check = check,
    .scratch_bytes = scratch_bytes,
    .run = nst_div_run,
};

void nst_div_run(const void *params, void *const *tensors, void *scratch) {
    (void)scratch;
    const nst_div_params p = *(const nst_div_params *)params;
    const int8_t *self = tensors[0];
    const int8_t *other = tensors[1];
    int8_t *output = tensors[2];
    for (uint32_t i = 0; i < p.elements; ++i) {
        const int32_t numerator = self[i] - p.self_zero_point;
        const int32_t denominator = other[i] - p.other_zero_point;
        const float quotient = denominator == 0 ? 0.0f : (float)numerator / (float)denominator;
        output[i] =
            nst_round_to_int8(quotient * p.output_scale, p.output_zero_point, INT8_MIN, INT8_MAX);
    }
}
