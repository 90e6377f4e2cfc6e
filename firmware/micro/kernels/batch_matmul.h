/* batch_matmul: out = clamp(requantize(sum over k of (lhs - lhs_zero_point) * (rhs -
 * rhs_zero_point)) + zero_point), for each batch.
 *
 * Tensors: lhs int8 [batches, rows, inner], rhs int8 [batches, columns, inner] (transposed, as the
 * reference operator takes it), output int8 [batches, rows, columns]. */
#ifndef NESTLING_MICRO_KERNELS_BATCH_MATMUL_H
#define NESTLING_MICRO_KERNELS_BATCH_MATMUL_H

#include "micro/operator.h"

typedef struct nst_batch_matmul_params {
    uint32_t batches;
    uint32_t rows;
    uint32_t columns;
    uint32_t inner;         /* at most 33024, so that a sum fits in 32 bits */
    int32_t lhs_zero_point; /* the zero point itself; the reference operator takes its negative */
    int32_t rhs_zero_point;
    int32_t output_zero_point;
    int32_t output_multiplier;
    int32_t output_shift;
} nst_batch_matmul_params;

extern const nst_operator nst_operator_batch_matmul;

/* Scratch: 4 bytes a column. */
void nst_batch_matmul_run(const void *params, void *const *tensors, void *scratch);

/* In every build: what the fast ones are compared with. */
void nst_batch_matmul_portable(const void *params, void *const *tensors, void *scratch);

#endif
