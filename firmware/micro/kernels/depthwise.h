/* depthwise: out[c] = clamp(rescale(bias[c] + sum over taps of in[c / multiplier] * weight[c]) +
 * output_zero_point).
 *
 * Tensors: input int8 NHWC, weights (constant), channels int32 (constant), output int8 NHWC.
 * Layouts and the folding of the input's zero point into the bias: layout.h; scales:
 * requantize.h. */
#ifndef NESTLING_MICRO_KERNELS_DEPTHWISE_H
#define NESTLING_MICRO_KERNELS_DEPTHWISE_H

#include "micro/kernels/layout.h"
#include "micro/operator.h"

/* Positions as in conv2d. */
typedef struct nst_depthwise_params {
    uint32_t batches;
    uint32_t input_height;
    uint32_t input_width;
    uint32_t input_channels;
    uint32_t output_height;
    uint32_t output_width;
    uint32_t channel_multiplier; /* output channels of one input channel */
    uint32_t kernel_height;
    uint32_t kernel_width;
    uint32_t stride_height;
    uint32_t stride_width;
    uint32_t pad_height; /* before the image */
    uint32_t pad_width;
    uint32_t dilation_height;
    uint32_t dilation_width;
    int32_t input_zero_point;
    int32_t output_zero_point;
    int32_t activation_min;
    int32_t activation_max;
    uint32_t layout;  /* nst_layout */
    uint32_t scaling; /* nst_scaling */
} nst_depthwise_params;

extern const nst_operator nst_operator_depthwise;

/* Scratch: with NST_LAYOUT_MVE one pixel of padding and a pointer for each tap; with
 * NST_LAYOUT_DSP four planes, see depthwise_dsp.h; otherwise none. The same in every build. */
void nst_depthwise_run(const void *params, void *const *tensors, void *scratch);

/* In every build, for every layout. */
void nst_depthwise_portable(const void *params, void *const *tensors, void *scratch);

#endif
