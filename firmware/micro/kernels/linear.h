/* linear: out = clamp(rescale(bias + in . weights) + output_zero_point), for each row of the input.
 *
 * Tensors: input int8 [batches, inputs], weights (constant), channels int32 (constant), output
 * int8 [batches, outputs]. Layouts and the folding of the input's zero point into the bias:
 * layout.h, one run; scales: requantize.h. */
#ifndef NESTLING_MICRO_KERNELS_LINEAR_H
#define NESTLING_MICRO_KERNELS_LINEAR_H

#include "micro/kernels/layout.h"
#include "micro/operator.h"

typedef struct nst_linear_params {
    uint32_t batches; /* product of all dimensions but the last */
    uint32_t inputs;
    uint32_t outputs;
    int32_t output_zero_point;
    int32_t activation_min;
    int32_t activation_max;
    uint32_t layout;  /* nst_layout */
    uint32_t scaling; /* nst_scaling */
} nst_linear_params;

extern const nst_operator nst_operator_linear;

/* Scratch: with NST_LAYOUT_MVE two rows of padded inputs; with NST_LAYOUT_DSP three rows of
 * 16-bit inputs, one for fewer than three batches; otherwise none. The same in every build. */
void nst_linear_run(const void *params, void *const *tensors, void *scratch);

/* In every build, for every layout. */
void nst_linear_portable(const void *params, void *const *tensors, void *scratch);

static inline nst_matrix nst_linear_matrix(const nst_linear_params *p) {
    return (nst_matrix){(nst_layout)p->layout, p->outputs, 1, p->inputs};
}

#endif
