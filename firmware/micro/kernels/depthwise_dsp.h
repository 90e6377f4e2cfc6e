/* How depthwise works on Armv7E-M, and the scratch memory that this takes.
 *
 * An SMLAD wants two taps of one channel side by side; NHWC has channels side by side. So four
 * channels at a time are spread over four planes of 16-bit values, padding written out, and each
 * plane is convolved line by line. Lines run along the longer side of the output, so that little
 * is spent on starting them; the other side is cut into strips that keep the planes small. */
#ifndef NESTLING_MICRO_KERNELS_DEPTHWISE_DSP_H
#define NESTLING_MICRO_KERNELS_DEPTHWISE_DSP_H

#include "micro/kernels/depthwise.h"

/* The planes take at most this, or what a strip of one output line takes. */
#define NST_DSP_PLANES_BYTES 6144u

/* One side of the image. Steps are distances between neighbours, in bytes, in the input, the
 * output and the weights. */
typedef struct nst_dsp_side {
    uint32_t input;
    uint32_t output;
    uint32_t kernel;
    uint32_t stride;
    uint32_t pad;
    uint32_t dilation;
    uint32_t input_step;
    uint32_t output_step;
    uint32_t tap_step;
} nst_dsp_side;

typedef struct nst_dsp_lines {
    nst_dsp_side along; /* dilation 1 */
    nst_dsp_side across;
    uint64_t line_words;  /* of one line of a plane */
    uint64_t strip_lines; /* output lines at a time */
    uint64_t plane_words;
    uint64_t tap_words; /* the weights of one channel as pairs */
} nst_dsp_lines;

/* False where lines cannot be used: dilated on both sides, or several output channels of one
 * input channel. */
static inline bool nst_dsp_lines_of(const nst_depthwise_params *p, nst_dsp_lines *lines) {
    const uint32_t channels = p->input_channels;
    const nst_dsp_side x = {
        .input = p->input_width,
        .output = p->output_width,
        .kernel = p->kernel_width,
        .stride = p->stride_width,
        .pad = p->pad_width,
        .dilation = p->dilation_width,
        .input_step = channels,
        .output_step = channels,
        .tap_step = channels,
    };
    const nst_dsp_side y = {
        .input = p->input_height,
        .output = p->output_height,
        .kernel = p->kernel_height,
        .stride = p->stride_height,
        .pad = p->pad_height,
        .dilation = p->dilation_height,
        .input_step = p->input_width * channels,
        .output_step = p->output_width * channels,
        .tap_step = p->kernel_width * channels,
    };
    if (p->channel_multiplier != 1 || (x.dilation != 1 && y.dilation != 1)) {
        return false;
    }
    const bool turned = x.dilation != 1 || (y.dilation == 1 && y.output > x.output);
    const nst_dsp_side along = turned ? y : x;
    const nst_dsp_side across = turned ? x : y;
    /* A line is read in pairs, an odd last tap with a neighbour that counts 0 times. */
    const uint64_t pairs = ((uint64_t)along.kernel + 1) / 2;
    const uint64_t line_words = ((uint64_t)(along.output - 1) * along.stride + 2 * pairs + 1) / 2;
    const uint64_t lines_of_one = (uint64_t)(across.kernel - 1) * across.dilation + 1;
    const uint64_t affordable = NST_DSP_PLANES_BYTES / (4 * sizeof(uint32_t)) / line_words;
    uint64_t strip = 1;
    if (affordable > lines_of_one) {
        strip += (affordable - lines_of_one) / across.stride;
        strip = strip < across.output ? strip : across.output;
    }
    *lines = (nst_dsp_lines){
        .along = along,
        .across = across,
        .line_words = line_words,
        .strip_lines = strip,
        .plane_words = line_words * ((strip - 1) * across.stride + lines_of_one),
        .tap_words = across.kernel * pairs,
    };
    return true;
}

/* Four planes and the numbers of one channel; 0 where lines cannot be used. */
static inline uint64_t nst_dsp_lines_bytes(const nst_depthwise_params *p) {
    nst_dsp_lines lines;
    if (!nst_dsp_lines_of(p, &lines)) {
        return 0;
    }
    /* Both products are below 2^60: sides are below 2^31 after the check. */
    if (lines.plane_words > UINT32_MAX || lines.tap_words > UINT32_MAX) {
        return UINT64_MAX;
    }
    return (4 * lines.plane_words + lines.tap_words + 4) * sizeof(uint32_t);
}

#endif
