/* layer_norm over rows: out = clamp(round(((in - mean) * rstd * gamma + beta) / scale) +
 * zero_point), ties to even.
 *
 * Replaces dequantize, native_layer_norm, quantize. See layer_norm.c for the order of float
 * operations.
 *
 * Tensors: input int8 [rows, columns], gamma float32 [columns] (constant, may be absent: ones),
 * beta float32 [columns] (constant, may be absent: zeros), output int8 [rows, columns]. */
#ifndef NESTLING_MICRO_KERNELS_LAYER_NORM_H
#define NESTLING_MICRO_KERNELS_LAYER_NORM_H

#include "micro/operator.h"

typedef struct nst_layer_norm_params {
    uint32_t rows;
    uint32_t columns;
    int32_t input_zero_point;
    float input_scale;
    float epsilon;
    float output_inverse_scale; /* 1 / scale, divided in double and rounded to float */
    int32_t output_zero_point;
    int32_t quant_min; /* of int8 */
    int32_t quant_max;
} nst_layer_norm_params;

extern const nst_operator nst_operator_layer_norm;

void nst_layer_norm_run(const void *params, void *const *tensors, void *scratch);

/* In every build: what the fast ones are compared with. */
void nst_layer_norm_portable(const void *params, void *const *tensors, void *scratch);

#endif
