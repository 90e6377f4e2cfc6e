/* max_pool: the largest value of each window, then clamped. Padding never wins.
 *
 * Tensors: input int8 NHWC, output int8 NHWC on the same scale. */
#ifndef NESTLING_MICRO_KERNELS_MAX_POOL_H
#define NESTLING_MICRO_KERNELS_MAX_POOL_H

#include "micro/kernels/window.h"
#include "micro/operator.h"

typedef struct nst_max_pool_params {
    nst_window_params window;
    int32_t activation_min;
    int32_t activation_max;
} nst_max_pool_params;

extern const nst_operator nst_operator_max_pool;

void nst_max_pool_run(const void *params, void *const *tensors, void *scratch);

/* In every build: what the fast ones are compared with. */
void nst_max_pool_portable(const void *params, void *const *tensors, void *scratch);

#endif
