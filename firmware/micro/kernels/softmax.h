/* softmax over rows: out = clamp(round(softmax((in - zero_point) * scale) * 256) - 128), ties to
 * even.
 *
 * Computed in float32 in the order of torch's vectorised kernel, its exponential included, so that
 * the bytes are the reference operator's and not just close to them: a float result near a half
 * decides an int8. The sum of a row runs over 8 lanes (torch on AVX2), element i in lane i mod 8.
 * Torch on other processors sums in another order and may then differ from this, and from itself,
 * in one value of a million by 1.
 *
 * Tensors: input int8 [rows, columns], output int8 [rows, columns] with scale 1/256 and zero point
 * -128. */
#ifndef NESTLING_MICRO_KERNELS_SOFTMAX_H
#define NESTLING_MICRO_KERNELS_SOFTMAX_H

#include "micro/operator.h"

typedef struct nst_softmax_params {
    uint32_t rows;
    uint32_t columns;
    int32_t input_zero_point;
    float input_scale; /* input_multiplier * 2^(input_shift - 57), in double, rounded; positive */
} nst_softmax_params;

extern const nst_operator nst_operator_softmax;

/* Scratch: 4 bytes a column. */
void nst_softmax_run(const void *params, void *const *tensors, void *scratch);

/* In every build: what the fast ones are compared with. */
void nst_softmax_portable(const void *params, void *const *tensors, void *scratch);

#endif
