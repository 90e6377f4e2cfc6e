/* avg_pool: the mean of each window, padding not counted (count_include_pad is a pad in front of
 * it).
 *
 * The reference computes in float32: dequantise, mean, quantise with ties to even. The integer
 * mean is the same except where it is a tie or, in windows of hundreds of elements, close to one:
 * there this kernel decides as the float computation does, by doing it.
 *
 * Tensors: input int8 NHWC, output int8 NHWC on the same scale. */
#ifndef NESTLING_MICRO_KERNELS_AVG_POOL_H
#define NESTLING_MICRO_KERNELS_AVG_POOL_H

#include "micro/kernels/window.h"
#include "micro/operator.h"

typedef struct nst_avg_pool_params {
    nst_window_params window;
    int32_t zero_point;
    float scale; /* multiplier * 2^shift / 2^31, rounded to float; decides ties only */
} nst_avg_pool_params;

extern const nst_operator nst_operator_avg_pool;

void nst_avg_pool_run(const void *params, void *const *tensors, void *scratch);

/* In every build: what the fast ones are compared with. */
void nst_avg_pool_portable(const void *params, void *const *tensors, void *scratch);

#endif
