/* From float to a quantised int8: to the nearest, ties to even, as torch rounds. */
#ifndef NESTLING_MICRO_KERNELS_ROUNDING_H
#define NESTLING_MICRO_KERNELS_ROUNDING_H

#include <stdint.h>
#include <string.h>

/* clamp(round(value) + zero_point, low, high), all three of int8. NaN counts as 0.
 *
 * Adding 1.5 * 2^23 leaves no bits for a fraction: the addition itself rounds, in the only mode
 * that the cores have, and the lowest bits are the result. Floats of one sign stand in the order of
 * their bits, so integers clamp them, however large the value was. */
static inline int8_t nst_round_to_int8(float value, int32_t zero_point, int32_t low, int32_t high) {
    const int32_t base = 0x4b400000; /* the bits of 1.5 * 2^23 */
    const float shifted = value + 0x1.8p23f;
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    if ((uint32_t)bits << 1 > 0xff000000u) {
        bits = base;
    }
    const int32_t lowest = base + (low - zero_point);
    const int32_t highest = base + (high - zero_point);
    bits = bits < lowest ? lowest : bits;
    bits = bits > highest ? highest : bits;
    return (int8_t)(bits - base + zero_point);
}

#endif
