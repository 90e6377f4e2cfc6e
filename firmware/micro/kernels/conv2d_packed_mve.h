/* conv2d on MVE where the rows of the kernel are short (a first layer with one or three
 * channels): a row of weights is one run, and windows are put together in scratch memory, from
 * lines of input that are padded on all sides. */
#ifndef NESTLING_MICRO_KERNELS_CONV2D_PACKED_MVE_H
#define NESTLING_MICRO_KERNELS_CONV2D_PACKED_MVE_H

#include "micro/kernels/conv2d.h"

/* Windows that are put together at a time. */
#define NST_CONV2D_PACKED_WINDOWS 8u

static inline bool nst_conv2d_is_packed(const nst_conv2d_params *p) {
    return p->layout == NST_LAYOUT_MVE && p->runs == 1 && p->kernel_height > 1 && p->groups == 1 &&
           p->dilation_width == 1;
}

/* Bytes of a line of input with its padding: what the windows of a row of output cover, and the
 * end of a vector. */
static inline uint64_t nst_conv2d_packed_line_bytes(const nst_conv2d_params *p) {
    const uint64_t covered = (uint64_t)(p->output_width - 1) * p->stride_width + p->kernel_width;
    return nst_round_up(covered * p->input_channels, 16) + 16;
}

/* Scratch: the windows, a vector, and a line for each kernel row. Sizes as after the check of
 * all others. */
static inline uint64_t nst_conv2d_packed_scratch_bytes(const nst_conv2d_params *p) {
    const uint64_t taps = (uint64_t)p->kernel_height * p->kernel_width * p->input_channels;
    return NST_CONV2D_PACKED_WINDOWS * nst_round_up(taps, 16) + 16 +
           p->kernel_height * nst_conv2d_packed_line_bytes(p);
}

void nst_conv2d_packed_run(const nst_conv2d_params *p, void *const *tensors, int8_t *scratch);

#endif
