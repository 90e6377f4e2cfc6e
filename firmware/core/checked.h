/* Size arithmetic that cannot wrap. Each function returns false, and leaves `out` alone, where the
 * result does not fit; no sum or product of numbers that come from a file is computed in any other
 * way. */
#ifndef NESTLING_CORE_CHECKED_H
#define NESTLING_CORE_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

static inline bool nst_add_u64(uint64_t a, uint64_t b, uint64_t *out) {
    if (a > UINT64_MAX - b) {
        return false;
    }
    *out = a + b;
    return true;
}

static inline bool nst_mul_u64(uint64_t a, uint64_t b, uint64_t *out) {
    uint64_t product;
    /* Not by a division: on a small processor that is a kilobyte of code. */
    if (__builtin_mul_overflow(a, b, &product)) {
        return false;
    }
    *out = product;
    return true;
}

/* Round up to a multiple of `alignment`, a power of two. */
static inline bool nst_align_u64(uint64_t value, uint64_t alignment, uint64_t *out) {
    uint64_t sum;
    if (!nst_add_u64(value, alignment - 1, &sum)) {
        return false;
    }
    *out = sum & ~(alignment - 1);
    return true;
}

#endif
