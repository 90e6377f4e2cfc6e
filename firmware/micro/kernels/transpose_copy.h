/* The walk of a transpose over its output, and the step in it that each instruction set has of its
 * own. */
#ifndef NESTLING_MICRO_KERNELS_TRANSPOSE_COPY_H
#define NESTLING_MICRO_KERNELS_TRANSPOSE_COPY_H

#include <stddef.h>

#include "micro/kernels/transpose.h"

/* The output's dimensions, outermost first, with the distance in bytes that each step moves in the
 * input. Neighbours in the output that are neighbours in the input too are one dimension. */
typedef struct nst_transpose_layout {
    uint32_t rank;
    uint32_t sizes[NST_TRANSPOSE_RANK];
    size_t steps[NST_TRANSPOSE_RANK];
} nst_transpose_layout;

/* Write `count` elements of `bytes` bytes in a row, read `step` bytes apart. */
typedef void (*nst_transpose_copy)(uint8_t *output, const uint8_t *input, uint32_t count,
                                   size_t step, uint32_t bytes);

void nst_transpose_with(const nst_transpose_params *params, void *const *tensors,
                        nst_transpose_copy copy);

#endif
