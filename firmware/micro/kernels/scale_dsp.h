/* From an accumulator to an int8 with the DSP extension: the roundings of requantize.h in 32-bit
 * steps.
 *
 * SMMULR of 2v and m is floor((v * m + 2^30) / 2^31), the first rounding, as long as 2v fits 32
 * bits. Accumulators come doubled for that reason, and the second multiplier of
 * NST_SCALING_TWICE is doubled: the bounds are part of NST_LAYOUT_DSP and the compiler of plans
 * keeps them. */
#ifndef NESTLING_MICRO_KERNELS_SCALE_DSP_H
#define NESTLING_MICRO_KERNELS_SCALE_DSP_H

#include <stdint.h>

#include "micro/kernels/instructions_dsp.h"
#include "micro/kernels/layout.h"
#include "micro/kernels/requantize.h"

/* The int8 of twice an accumulator, the channel's bias not yet added. */
static inline int8_t nst_dsp_twice(int32_t doubled, nst_channel channel, int32_t zero_point) {
    const int32_t once = nst_high_product(doubled + channel.bias * 2, channel.multiplier);
    return (int8_t)nst_saturate_to_int8(nst_add_high_product(zero_point, once, channel.scale * 2));
}

/* The same for NST_SCALING_SHIFT and a shift that is not between -30 and -1. */
int8_t nst_dsp_odd_shift(int32_t doubled, nst_channel channel, int32_t zero_point);

static inline int8_t nst_dsp_shift(int32_t doubled, nst_channel channel, int32_t zero_point) {
    const int32_t shift = channel.scale;
    if (shift < -30 || shift > -1) {
        return nst_dsp_odd_shift(doubled, channel, zero_point);
    }
    const int32_t once = nst_high_product(doubled + channel.bias * 2, channel.multiplier);
    const int32_t half = 1 << (-shift - 1);
    return (int8_t)nst_saturate_to_int8(((once + half + (once >> 31)) >> -shift) + zero_point);
}

/* Where the range of an activation is narrower than int8: `count` bytes are clamped in place. */
void nst_dsp_clamp(int8_t *bytes, uint32_t count, int32_t low, int32_t high);

#endif
