/* From an accumulator to an int8: the rounding of ExecuTorch's reference (`requantize_cmsis`), in
 * two spellings.
 *
 * A real scale below or above 1 is `multiplier / 2^31 * 2^shift` with a multiplier in [2^30, 2^31).
 * The reference multiplies, rounds half up, divides by 2^-shift and rounds half away from zero.
 * Both roundings must be kept: one rounding of the exact product gives other bytes.
 */
#ifndef NESTLING_MICRO_KERNELS_REQUANTIZE_H
#define NESTLING_MICRO_KERNELS_REQUANTIZE_H

#include <stdint.h>

/* How a table of channels spells a scale; part of a parameter record, chosen by the compiler of
 * plans. */
typedef enum nst_scaling {
    /* {multiplier, shift}: any scale. */
    NST_SCALING_SHIFT = 0,
    /* {multiplier, second}: two multiplications and no shift, for -11 <= shift <= -1, and for
     * smaller shifts where the accumulator's bound allows it. With n = -shift and second =
     * 2^(31-n) + 1, the second rounding doubling high product is floor((q + q/2^(31-n) +
     * 2^(n-1)) / 2^n): the small term decides ties, away from zero, and changes nothing else
     * while |q| < 2^(31-n). Above that the results are out of int8's range both ways. */
    NST_SCALING_TWICE = 1,
} nst_scaling;

static inline int32_t nst_saturate(int64_t value) {
    return value > INT32_MAX ? INT32_MAX : value < INT32_MIN ? INT32_MIN : (int32_t)value;
}

/* The high half of the doubled product, rounded half up: VQRDMULH. */
static inline int32_t nst_rounding_high(int32_t a, int32_t b) {
    if (a == INT32_MIN && b == INT32_MIN) {
        return INT32_MAX; /* the only product that does not fit */
    }
    return (int32_t)(((int64_t)a * b + (INT64_C(1) << 30)) >> 31);
}

/* value / 2^exponent, rounded half away from zero; exponent in [0, 31]. */
static inline int32_t nst_rounding_divide(int32_t value, int32_t exponent) {
    const int32_t mask = (int32_t)((UINT32_C(1) << exponent) - 1);
    const int32_t half = (mask >> 1) + (value < 0);
    return (value >> exponent) + ((value & mask) > half);
}

/* value * multiplier / 2^31 * 2^shift. Equals the reference wherever that one's result fits 32
 * bits; a value whose left shift does not fit is held at the end of the range. A shift outside
 * [-31, 31] is taken as the nearest. */
static inline int32_t nst_requantize(int32_t value, int32_t multiplier, int32_t shift) {
    if (shift > 0) {
        value = nst_saturate((int64_t)value * (INT64_C(1) << (shift < 31 ? shift : 31)));
    }
    int32_t high = nst_rounding_high(value, multiplier);
    return shift < 0 ? nst_rounding_divide(high, shift > -31 ? -shift : 31) : high;
}

/* The same with either spelling; `scale` is the shift or the second multiplier. */
static inline int32_t nst_rescale(int32_t value, nst_scaling scaling, int32_t multiplier,
                                  int32_t scale) {
    return scaling == NST_SCALING_TWICE
               ? nst_rounding_high(nst_rounding_high(value, multiplier), scale)
               : nst_requantize(value, multiplier, scale);
}

/* clamp(value + zero_point, low, high), the three of int8. */
static inline int8_t nst_to_int8(int32_t value, int32_t zero_point, int32_t low, int32_t high) {
    /* Past +-512 the clamp decides, and the sum cannot overflow. */
    value = value < -512 ? -512 : value > 512 ? 512 : value;
    value += zero_point;
    value = value < low ? low : value;
    return (int8_t)(value > high ? high : value);
}

#endif
