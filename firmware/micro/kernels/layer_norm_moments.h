/* Mean and variance of a row, to the bit that torch's kernel gives them. */
#ifndef NESTLING_MICRO_KERNELS_LAYER_NORM_MOMENTS_H
#define NESTLING_MICRO_KERNELS_LAYER_NORM_MOMENTS_H

#include <stdint.h>

#include "micro/kernels/layer_norm.h"

#define NST_LAYER_NORM_LANES 8u
#define NST_LAYER_NORM_CHUNK \
    16u /* vectors of 8 values that are summed up before they are added to others */
#define NST_LAYER_NORM_LARGEST 65536u /* columns */
#define NST_LAYER_NORM_DEPTH 9u       /* log2 of the chunks in such a row */

/* Count, mean and sum of squared deviations of 8 interleaved parts of a row: value i is in part i
 * mod 8. */
typedef struct nst_moments {
    uint32_t count; /* values in each part */
    float mean[NST_LAYER_NORM_LANES];
    float squares[NST_LAYER_NORM_LANES];
} nst_moments;

typedef struct nst_row_moments {
    float mean;
    float reciprocal_deviation;
} nst_row_moments;

/* 1 / (i + 1), the weight of the i-th vector of a chunk in the mean so far. */
extern const float nst_layer_norm_weights[NST_LAYER_NORM_CHUNK];

/* The moments of `vectors` * 8 values, vectors <= 16: the one part that each instruction set has
 * of its own. */
void nst_layer_norm_chunk(const nst_layer_norm_params *params, const int8_t *values,
                          uint32_t vectors, nst_moments *out);

nst_row_moments nst_layer_norm_row(const nst_layer_norm_params *params, const int8_t *row);

#endif
