/* From float to a quantised int8: to the nearest, ties to even, as torch rounds. */
#ifndef NESTLING_MICRO_KERNELS_ROUNDING_H
#define NESTLING_MICRO_KERNELS_ROUNDING_H

#include <stdint.h>

/* clamp(round(value) + zero_point, low, high), all three of int8. NaN counts as 0. */
static inline int8_t nst_round_to_int8(float value, int32_t zero_point, int32_t low, int32_t high) {
    /* Past +-512 the clamp decides. Adding 1.5 * 2^23 leaves no bits for the fraction: the
     * addition itself rounds, in the only mode the cores have. */
    const float bounded = value > 512.0f ? 512.0f : (value < -512.0f ? -512.0f : value);
    const float rounded = (bounded + 0x1.8p23f) - 0x1.8p23f;
    int32_t result = (rounded != rounded ? 0 : (int32_t)rounded) + zero_point;
    result = result < low ? low : result;
    return (int8_t)(result > high ? high : result);
}

#endif
