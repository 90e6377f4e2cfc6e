/* nst_requantize for values that a check has bounded: no 64-bit clamps, and what does not change
 * from value to value is worked out once. */
#ifndef NESTLING_MICRO_KERNELS_BOUNDED_H
#define NESTLING_MICRO_KERNELS_BOUNDED_H

#include <stdbool.h>
#include <stdint.h>

typedef struct nst_bounded_scale {
    int32_t multiplier;
    int32_t factor; /* 2^shift where the shift is to the left, else 1 */
    int32_t right;  /* the shift where it is to the right, else 0 */
    int32_t half;   /* of what the right shift drops */
    int32_t sign;   /* -1 where there is a right shift, else 0 */
} nst_bounded_scale;

/* True when values up to `largest` in size may be given to nst_requantize_bounded with this shift.
 */
static inline bool nst_bounded_ok(uint64_t largest, int32_t shift) {
    if (shift < -31 || shift > 30 || largest > INT32_MAX) {
        return false;
    }
    return shift > 0 ? largest << shift <= INT32_MAX : largest <= INT32_MAX / 2;
}

static inline nst_bounded_scale nst_bounded_scale_of(int32_t multiplier, int32_t shift) {
    const int32_t right = shift < 0 ? -shift : 0;
    return (nst_bounded_scale){
        .multiplier = multiplier,
        .factor = shift > 0 ? 1 << shift : 1,
        .right = right,
        .half = right > 0 ? 1 << (right - 1) : 0,
        .sign = right > 0 ? -1 : 0,
    };
}

static inline int32_t nst_requantize_bounded(int32_t value, nst_bounded_scale scale) {
    const int64_t product = (int64_t)(value * scale.factor) * scale.multiplier;
    const int32_t high = (int32_t)((product + (1 << 30)) >> 31);
    /* half away from zero: a negative value that is a tie goes down */
    return (high + scale.half + ((high >> 31) & scale.sign)) >> scale.right;
}

#endif
