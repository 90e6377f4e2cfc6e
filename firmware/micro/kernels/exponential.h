/* exp(x) for x <= 0 in float32, to the bit that torch's vectorised kernels give (the algorithm and
 * coefficients of SLEEF's expf with an error below 1 ulp: Shibata and Petrogalli, IEEE TPDS 31(6),
 * 2020). Results below the normal numbers are 0: no sum that has a term of 1 can tell. */
#ifndef NESTLING_MICRO_KERNELS_EXPONENTIAL_H
#define NESTLING_MICRO_KERNELS_EXPONENTIAL_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "micro/kernels/float_order.h"

#define NST_EXP_LOWEST (-87.0f) /* its exponential is the last normal number, nearly */
#define NST_EXP_LOG2_E 0x1.715476p0f
#define NST_EXP_LN2_HIGH 0x1.62e4p-1f /* few bits: a multiple of it is exact */
#define NST_EXP_LN2_LOW 0x1.7f7d1cp-20f
#define NST_EXP_C6 0.000198527617612853646278381f
#define NST_EXP_C5 0.00139304355252534151077271f
#define NST_EXP_C4 0.00833336077630519866943359f
#define NST_EXP_C3 0.0416664853692054748535156f
#define NST_EXP_C2 0.166666671633720397949219f

static inline float nst_exp(float x) {
    if (!(x >= NST_EXP_LOWEST)) {
        return 0.0f;
    }
    /* x = power * ln 2 + r; the addition of 1.5 * 2^23 rounds to an integer. */
    const float shifted = x * NST_EXP_LOG2_E + 0x1.8p23f;
    const float power = shifted - 0x1.8p23f;
    const float r = fmaf(power, -NST_EXP_LN2_LOW, fmaf(power, -NST_EXP_LN2_HIGH, x));
    float u = fmaf(NST_EXP_C6, r, NST_EXP_C5);
    u = fmaf(u, r, NST_EXP_C4);
    u = fmaf(u, r, NST_EXP_C3);
    u = fmaf(u, r, NST_EXP_C2);
    u = fmaf(u, r, 0.5f);
    u = 1.0f + fmaf(r * r, u, r);
    const uint32_t bits = (uint32_t)((int32_t)power + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return u * scale;
}

#endif
