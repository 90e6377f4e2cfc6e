/* The taps of a convolution along one axis of its image. */
#ifndef NESTLING_MICRO_KERNELS_TAPS_H
#define NESTLING_MICRO_KERNELS_TAPS_H

#include <stdbool.h>
#include <stdint.h>

/* True when no size is 0 and every tap's position fits 31 bits. Taps may lie outside the image, all of them too. */
static inline bool nst_taps_ok(uint32_t input, uint32_t output, uint32_t kernel, uint32_t stride,
                               uint32_t pad, uint32_t dilation) {
    const uint32_t limit = INT32_MAX / 4;
    return input != 0 && output != 0 && kernel != 0 && stride != 0 && dilation != 0 &&
           input <= limit && pad <= limit && (uint64_t)(output - 1) * stride <= limit &&
           (uint64_t)(kernel - 1) * dilation <= limit;
}

#endif
