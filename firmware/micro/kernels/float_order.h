/* For kernels whose float operations must stay as they are written: a multiplication and an addition
 * become one operation only where fmaf says so. C11 itself promises that, GNU's dialect does not. */
#ifndef NESTLING_MICRO_KERNELS_FLOAT_ORDER_H
#define NESTLING_MICRO_KERNELS_FLOAT_ORDER_H

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif !defined(__STRICT_ANSI__)
#error "compile this with -std=c11: other dialects fuse multiplications and additions"
#endif

#ifdef __FAST_MATH__
#error "-ffast-math changes results"
#endif

#endif
