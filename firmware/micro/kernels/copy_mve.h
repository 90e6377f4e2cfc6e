/* Copying and filling a few bytes on MVE, without the cost of a call. */
#ifndef NESTLING_MICRO_KERNELS_COPY_MVE_H
#define NESTLING_MICRO_KERNELS_COPY_MVE_H

#include <stdint.h>

/* Compilers of today turn predicated loops into twice the instructions: hence assembly. */
static inline void nst_copy_mve(int8_t *to, const int8_t *from, uint32_t bytes) {
    __asm__ volatile(
        "   wlstp.8 lr, %2, 2f\n"
        "1: vldrb.u8 q0, [%1], #16\n"
        "   vstrb.8 q0, [%0], #16\n"
        "   letp lr, 1b\n"
        "2:\n"
        : "+r"(to), "+r"(from)
        : "r"(bytes)
        : "q0", "lr", "memory");
}

static inline void nst_fill_mve(int8_t *to, int32_t value, uint32_t bytes) {
    __asm__ volatile(
        "   vdup.8 q0, %1\n"
        "   wlstp.8 lr, %2, 2f\n"
        "1: vstrb.8 q0, [%0], #16\n"
        "   letp lr, 1b\n"
        "2:\n"
        : "+r"(to)
        : "r"(value), "r"(bytes)
        : "q0", "lr", "memory");
}

#endif
