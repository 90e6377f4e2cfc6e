/* The taps of a convolution along one axis of its image. */
#ifndef NESTLING_MICRO_KERNELS_TAPS_H
#define NESTLING_MICRO_KERNELS_TAPS_H

#include <stdbool.h>
#include <stdint.h>

/* True when no size is 0 and every tap's position fits 31 bits. Taps may lie outside the image,
 * all of them too. */
static inline bool nst_taps_ok(uint32_t input, uint32_t output, uint32_t kernel, uint32_t stride,
                               uint32_t pad, uint32_t dilation) {
    const uint32_t limit = INT32_MAX / 4;
    return input != 0 && output != 0 && kernel != 0 && stride != 0 && dilation != 0 &&
           input <= limit && pad <= limit && dilation <= limit &&
           (uint64_t)(output - 1) * stride <= limit && (uint64_t)(kernel - 1) * dilation <= limit;
}

/* The taps [begin, end) of a kernel that lie inside the image: begin <= end <= kernel. */
typedef struct nst_tap_range {
    uint32_t begin;
    uint32_t end;
} nst_tap_range;

/* `first` is the position of tap 0; after nst_taps_ok. */
static inline nst_tap_range nst_taps_inside(int32_t first, uint32_t input, uint32_t kernel,
                                            uint32_t dilation) {
    nst_tap_range range = {0, 0};
    int32_t position = first;
    while (range.begin < kernel && position < 0) {
        position += (int32_t)dilation;
        ++range.begin;
    }
    range.end = range.begin;
    while (range.end < kernel && position < (int32_t)input) {
        position += (int32_t)dilation;
        ++range.end;
    }
    return range;
}

#endif
