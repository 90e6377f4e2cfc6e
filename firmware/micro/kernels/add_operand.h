/* How add brings an operand to the scale of the sum: A(q) = requantize((q - zero_point) << 20,
 * multiplier, shift). */
#ifndef NESTLING_MICRO_KERNELS_ADD_OPERAND_H
#define NESTLING_MICRO_KERNELS_ADD_OPERAND_H

#include "micro/kernels/bounded.h"

/* Two tables of 256 int32: A of both operands. */
#define NST_ADD_SCRATCH_BYTES 2048u

/* Writes A(q) to table[q] for every int8 q; `table` points at the middle. */
static inline void nst_add_fill(int32_t *table, int32_t zero_point, int32_t multiplier,
                                int32_t shift) {
    const nst_bounded_scale scale = nst_bounded_scale_of(multiplier, shift);
    for (int32_t q = INT8_MIN; q <= INT8_MAX; ++q) {
        table[q] = nst_requantize_bounded((q - zero_point) * (1 << 20), scale);
    }
}

#endif
