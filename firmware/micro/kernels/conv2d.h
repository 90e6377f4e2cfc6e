/* conv2d: out = clamp(rescale(bias + sum over taps of in * weight) + output_zero_point), for each
 * output channel.
 *
 * Tensors: input int8 NHWC, weights (constant), channels int32 (constant), output int8 NHWC.
 * Layouts and the folding of the input's zero point into the bias: layout.h; scales:
 * requantize.h. A convolution along one axis is an image of height 1. */
#ifndef NESTLING_MICRO_KERNELS_CONV2D_H
#define NESTLING_MICRO_KERNELS_CONV2D_H

#include "micro/kernels/layout.h"
#include "micro/operator.h"

/* Tap (y, x) of output position (i, j) is input position (i * stride_height - pad_height + y *
 * dilation_height, the same for x). What lies behind the image follows from the output's size. */
typedef struct nst_conv2d_params {
    uint32_t batches;
    uint32_t input_height;
    uint32_t input_width;
    uint32_t input_channels;
    uint32_t output_height;
    uint32_t output_width;
    uint32_t output_channels;
    uint32_t kernel_height;
    uint32_t kernel_width;
    uint32_t stride_height;
    uint32_t stride_width;
    uint32_t pad_height; /* before the image */
    uint32_t pad_width;
    uint32_t dilation_height;
    uint32_t dilation_width;
    uint32_t groups; /* divides both numbers of channels; a group's rows are padded on their own */
    int32_t input_zero_point;
    int32_t output_zero_point;
    int32_t activation_min;
    int32_t activation_max;
    uint32_t layout;  /* nst_layout */
    uint32_t runs;    /* pieces of a row of weights: kernel_height, or 1 for a row in one piece */
    uint32_t scaling; /* nst_scaling */
} nst_conv2d_params;

extern const nst_operator nst_operator_conv2d;

/* Scratch: with NST_LAYOUT_MVE two columns of padded taps, or what conv2d_packed_mve.h says;
 * with NST_LAYOUT_DSP three columns of 16-bit taps, and one of bytes where channels are no
 * multiple of 4; otherwise none. The same in every build. */
void nst_conv2d_run(const void *params, void *const *tensors, void *scratch);

/* In every build, for every layout. */
void nst_conv2d_portable(const void *params, void *const *tensors, void *scratch);

/* The weights of one group. */
static inline nst_matrix nst_conv2d_matrix(const nst_conv2d_params *p) {
    return (nst_matrix){
        .layout = (nst_layout)p->layout,
        .rows = p->output_channels / p->groups,
        .runs = p->runs,
        .run_bytes = p->kernel_height * p->kernel_width * (p->input_channels / p->groups) / p->runs,
    };
}

#endif
