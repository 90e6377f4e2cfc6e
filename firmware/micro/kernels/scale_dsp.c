#include "micro/kernels/variant.h"

#if NST_DSP

#include "micro/kernels/scale_dsp.h"

int8_t nst_dsp_odd_shift(int32_t doubled, nst_channel channel, int32_t zero_point) {
    const int32_t value = (doubled >> 1) + channel.bias;
    return nst_to_int8(nst_requantize(value, channel.multiplier, channel.scale), zero_point,
                       INT8_MIN, INT8_MAX);
}

void nst_dsp_clamp(int8_t *bytes, uint32_t count, int32_t low, int32_t high) {
    if (low <= INT8_MIN && high >= INT8_MAX) {
        return;
    }
    const uint32_t lows = (uint8_t)low * 0x01010101u;
    const uint32_t highs = (uint8_t)high * 0x01010101u;
    for (; count >= 4; count -= 4, bytes += 4) {
        const uint32_t word =
            nst_smaller_bytes(nst_larger_bytes(nst_load_word(bytes), lows), highs);
        memcpy(bytes, &word, sizeof word);
    }
    for (uint32_t i = 0; i < count; ++i) {
        bytes[i] = nst_to_int8(bytes[i], 0, low, high);
    }
}

#endif
