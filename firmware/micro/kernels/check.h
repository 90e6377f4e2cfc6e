/* What the checks of operators share: sizes that cannot wrap, ranges of quantised values.
 * Parameters come from outside; nothing is assumed of them. */
#ifndef NESTLING_MICRO_KERNELS_CHECK_H
#define NESTLING_MICRO_KERNELS_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* True when the product of `count` numbers, none of them 0, is at most `limit`. */
static inline bool nst_fits(const uint32_t *numbers, unsigned count, uint32_t limit) {
    uint64_t product = 1;
    for (unsigned i = 0; i < count; ++i) {
        product *= numbers[i]; /* below 2^64: the product so far is below 2^32 */
        if (product == 0 || product > limit) {
            return false;
        }
    }
    return true;
}

static inline bool nst_is_int8(int32_t value) {
    return value >= INT8_MIN && value <= INT8_MAX;
}

/* Bounds of a result: of int8, and not the wrong way round. */
static inline bool nst_are_bounds(int32_t low, int32_t high) {
    return low >= INT8_MIN && low <= high && high <= INT8_MAX;
}

/* Scales far from where floats end: products with quantised values are neither infinite nor
 * denormal. */
static inline bool nst_is_scale(float value) {
    return value >= 0x1p-100f && value <= 0x1p100f;
}

#endif
