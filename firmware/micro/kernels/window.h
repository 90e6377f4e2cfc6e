/* The windows of a pool: where each one lies in its NHWC image. */
#ifndef NESTLING_MICRO_KERNELS_WINDOW_H
#define NESTLING_MICRO_KERNELS_WINDOW_H

#include "micro/kernels/check.h"

/* Along each axis window i covers input positions [i * stride - pad, i * stride - pad + kernel) as
 * far as they exist. `pad` is what lies before the image; what lies behind follows from the
 * output's size, so rounding up (ceil mode) is only a larger output. */
typedef struct nst_window_params {
    uint32_t batches;
    uint32_t channels;
    uint32_t input_height;
    uint32_t input_width;
    uint32_t output_height;
    uint32_t output_width;
    uint32_t kernel_height;
    uint32_t kernel_width;
    uint32_t stride_height;
    uint32_t stride_width;
    uint32_t pad_height;
    uint32_t pad_width;
} nst_window_params;

/* True when no window along this axis is empty and no position overflows 31 bits. */
static inline bool nst_window_axis_ok(uint32_t input, uint32_t output, uint32_t kernel,
                                      uint32_t stride, uint32_t pad) {
    const uint32_t limit = INT32_MAX / 4;
    if (input == 0 || output == 0 || kernel == 0 || stride == 0 || input > limit ||
        kernel > limit || pad >= kernel) {
        return false;
    }
    return (uint64_t)(output - 1) * stride < (uint64_t)input + pad;
}

static inline bool nst_window_ok(const nst_window_params *w, uint32_t input_bytes,
                                 uint32_t output_bytes) {
    const uint32_t input[4] = {w->batches, w->input_height, w->input_width, w->channels};
    const uint32_t output[4] = {w->batches, w->output_height, w->output_width, w->channels};
    return nst_fits(input, 4, input_bytes) && nst_fits(output, 4, output_bytes) &&
           nst_window_axis_ok(w->input_height, w->output_height, w->kernel_height, w->stride_height,
                              w->pad_height) &&
           nst_window_axis_ok(w->input_width, w->output_width, w->kernel_width, w->stride_width,
                              w->pad_width);
}

/* The part [begin, end) of the input that window `index` covers: never empty after the check. */
typedef struct nst_span {
    uint32_t begin;
    uint32_t end;
} nst_span;

static inline nst_span nst_window_span(uint32_t index, uint32_t input, uint32_t kernel,
                                       uint32_t stride, uint32_t pad) {
    const uint32_t start = index * stride; /* below input + pad */
    const uint32_t end = start + kernel - pad;
    return (nst_span){start > pad ? start - pad : 0, end < input ? end : input};
}

#endif
