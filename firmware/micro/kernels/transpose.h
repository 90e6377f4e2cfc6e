/* transpose: dimension i of the output is dimension permutation[i] of the input.
 *
 * Tensors: input, output; elements of 1, 2 or 4 bytes. Dimensions stand in the order of memory. */
#ifndef NESTLING_MICRO_KERNELS_TRANSPOSE_H
#define NESTLING_MICRO_KERNELS_TRANSPOSE_H

#include "micro/operator.h"

#define NST_TRANSPOSE_RANK 6u

typedef struct nst_transpose_params {
    uint32_t rank; /* 1 .. 6 */
    uint32_t element_bytes;
    uint32_t input_shape[NST_TRANSPOSE_RANK]; /* the first `rank` count */
    uint32_t permutation[NST_TRANSPOSE_RANK];
} nst_transpose_params;

extern const nst_operator nst_operator_transpose;

void nst_transpose_run(const void *params, void *const *tensors, void *scratch);

/* In every build: what the fast ones are compared with. */
void nst_transpose_portable(const void *params, void *const *tensors, void *scratch);

#endif
