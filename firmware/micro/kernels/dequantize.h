/* dequantize: out = (in - zero_point) * scale in float32.
 *
 * Tensors: input int8, output float32. */
#ifndef NESTLING_MICRO_KERNELS_DEQUANTIZE_H
#define NESTLING_MICRO_KERNELS_DEQUANTIZE_H

#include "micro/operator.h"

typedef struct nst_dequantize_params {
    uint32_t elements;
    int32_t zero_point;
    float scale;
} nst_dequantize_params;

extern const nst_operator nst_operator_dequantize;

void nst_dequantize_run(const void *params, void *const *tensors, void *scratch);

/* In every build: what the fast ones are compared with. */
void nst_dequantize_portable(const void *params, void *const *tensors, void *scratch);

#endif
