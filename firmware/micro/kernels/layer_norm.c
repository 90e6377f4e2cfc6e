/* Float operations stand in the order, and are fused where, torch 2.13's kernel for layer_norm has
 * them on a processor with AVX2 and FMA: moments by Welford's method over 8 lanes in chunks of 16
 * values, chunks added pairwise. The bytes are then those of dequantize, native_layer_norm,
 * quantize, ties included. */
#include "micro/kernels/layer_norm.h"

#include <math.h>

#include "micro/kernels/check.h"
#include "micro/kernels/float_order.h"
#include "micro/kernels/layer_norm_moments.h"
#include "micro/kernels/rounding.h"
#include "micro/kernels/variant.h"

static bool check(const void *params, const uint32_t *tensor_bytes, uint32_t scratch_bytes) {
    (void)scratch_bytes;
    const nst_layer_norm_params *p = params;
    const uint32_t shape[2] = {p->rows, p->columns};
    return nst_fits(shape, 2, tensor_bytes[0]) && nst_fits(shape, 2, tensor_bytes[3]) &&
           p->columns <= NST_LAYER_NORM_LARGEST &&
           (tensor_bytes[1] == 0 || p->columns <= tensor_bytes[1] / sizeof(float)) &&
           (tensor_bytes[2] == 0 || p->columns <= tensor_bytes[2] / sizeof(float)) &&
           nst_is_int8(p->input_zero_point) && p->input_scale >= 0x1p-40f &&
           p->input_scale <= 0x1p40f && p->epsilon >= 0.0f && p->epsilon <= 1.0f &&
           nst_is_scale(p->output_inverse_scale) && nst_is_int8(p->output_zero_point) &&
           nst_are_bounds(p->quant_min, p->quant_max);
}

static uint32_t scratch_bytes(const void *params) {
    (void)params;
    return 0;
}

const nst_operator nst_operator_layer_norm = {
    .name = "layer_norm",
    .params_bytes = sizeof(nst_layer_norm_params),
    .tensors = 4,
    .check = check,
    .scratch_bytes = scratch_bytes,
    .run = nst_layer_norm_run,
};

/* Parameters by value: a compiler must take it that writes to the output change what pointers
 * show. */
static void normalize_row(nst_layer_norm_params p, nst_row_moments moments, const int8_t *input,
                          const float *gamma, const float *beta, int8_t *output) {
    for (uint32_t i = 0; i < p.columns; ++i) {
        const float x = (float)(input[i] - p.input_zero_point) * p.input_scale;
        const float normal = (x - moments.mean) * moments.reciprocal_deviation;
        const float y = fmaf(normal, gamma ? gamma[i] : 1.0f, beta ? beta[i] : 0.0f);
        output[i] = nst_round_to_int8(y * p.output_inverse_scale, p.output_zero_point, p.quant_min,
                                      p.quant_max);
    }
}

void nst_layer_norm_portable(const void *params, void *const *tensors, void *scratch) {
    (void)scratch;
    const nst_layer_norm_params *p = params;
    const uint32_t columns = p->columns;
    const int8_t *input = tensors[0];
    int8_t *output = tensors[3];
    for (uint32_t row = 0; row < p->rows; ++row, input += columns, output += columns) {
        normalize_row(*p, nst_layer_norm_row(p, input), input, tensors[1], tensors[2], output);
    }
}

#if !NST_MVE_FLOAT

void nst_layer_norm_run(const void *params, void *const *tensors, void *scratch) {
    nst_layer_norm_portable(params, tensors, scratch);
}

#endif
