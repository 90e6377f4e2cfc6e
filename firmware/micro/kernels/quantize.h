/* quantize: out = clamp(round(in * inverse_scale) + zero_point), float32, ties to even. NaN
 * becomes zero_point.
 *
 * Tensors: input float32, output int8. */
#ifndef NESTLING_MICRO_KERNELS_QUANTIZE_H
#define NESTLING_MICRO_KERNELS_QUANTIZE_H

#include "micro/operator.h"

typedef struct nst_quantize_params {
    uint32_t elements;
    float inverse_scale; /* 1 / scale, divided in double and rounded to float */
    int32_t zero_point;
    int32_t quant_min; /* of int8 */
    int32_t quant_max;
} nst_quantize_params;

extern const nst_operator nst_operator_quantize;

void nst_quantize_run(const void *params, void *const *tensors, void *scratch);

/* In every build: what the fast ones are compared with. */
void nst_quantize_portable(const void *params, void *const *tensors, void *scratch);

#endif
