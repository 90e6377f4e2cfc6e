/* exp(x) for float, the same bits on every machine, in operations that compilers vectorise. */
#ifndef NESTLING_CORE_EXPONENTIAL_H
#define NESTLING_CORE_EXPONENTIAL_H

#include <stdint.h>
#include <string.h>

/* Relative error below 2e-7 for -87 <= x <= 88; smaller x give about 1e-38, larger ones are cut to
 * 88; not a number gives a number. */
static inline float nst_exp(float x) {
    const float log2_e = 1.44269504088896341f;
    const float ln2_high = 0.693359375f;
    const float ln2_low = -2.12194440e-4f;
    const float round = 12582912.0f; /* 1.5 * 2^23: adding it rounds to a whole number */
    float y;
    float whole;
    float rest;
    float power;
    int32_t exponent;
    x = x > -87.0f ? x : -87.0f;
    x = x < 88.0f ? x : 88.0f;
    whole = (x * log2_e + round) - round;
    rest = (x - whole * ln2_high) - whole * ln2_low;
    /* Cephes' polynomial for exp on [-ln(2)/2, ln(2)/2]. */
    y = 1.9875691500e-4f;
    y = y * rest + 1.3981999507e-3f;
    y = y * rest + 8.3334519073e-3f;
    y = y * rest + 4.1665795894e-2f;
    y = y * rest + 1.6666665459e-1f;
    y = y * rest + 5.0000001201e-1f;
    y = y * rest * rest + rest + 1.0f;
    exponent = ((int32_t)whole + 127) * (1 << 23);
    memcpy(&power, &exponent, sizeof power);
    return y * power;
}

#endif
