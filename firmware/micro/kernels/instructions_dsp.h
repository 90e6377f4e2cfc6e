/* Instructions of Armv7E-M's DSP extension that arm_acle.h has no function for, or that
 * compilers do not merge. */
#ifndef NESTLING_MICRO_KERNELS_INSTRUCTIONS_DSP_H
#define NESTLING_MICRO_KERNELS_INSTRUCTIONS_DSP_H

#include <stdint.h>
#include <string.h>

/* Four bytes from any address. */
static inline uint32_t nst_load_word(const int8_t *address) {
    uint32_t word;
    memcpy(&word, address, sizeof word);
    return word;
}

/* Bytes 0 and 2, sign-extended to two halfwords. */
static inline uint32_t nst_even_bytes(uint32_t word) {
    uint32_t result;
    __asm__("sxtb16 %0, %1" : "=r"(result) : "r"(word));
    return result;
}

/* Bytes 1 and 3, sign-extended to two halfwords. */
static inline uint32_t nst_odd_bytes(uint32_t word) {
    uint32_t result;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(result) : "r"(word));
    return result;
}

/* Adds bytes 0 and 2, sign-extended, to two halfwords. */
static inline uint32_t nst_add_even_bytes(uint32_t halves, uint32_t word) {
    uint32_t result;
    __asm__("sxtab16 %0, %1, %2" : "=r"(result) : "r"(halves), "r"(word));
    return result;
}

/* Adds bytes 1 and 3, sign-extended, to two halfwords. */
static inline uint32_t nst_add_odd_bytes(uint32_t halves, uint32_t word) {
    uint32_t result;
    __asm__("sxtab16 %0, %1, %2, ror #8" : "=r"(result) : "r"(halves), "r"(word));
    return result;
}

/* The low halfwords of both: `low` below, `high` above. */
static inline uint32_t nst_low_halves(uint32_t low, uint32_t high) {
    uint32_t result;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(result) : "r"(low), "r"(high));
    return result;
}

/* The high halfwords of both: `low`'s below, `high`'s above. */
static inline uint32_t nst_high_halves(uint32_t low, uint32_t high) {
    uint32_t result;
    __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(result) : "r"(high), "r"(low));
    return result;
}

/* sum + both products of halfwords. */
static inline int32_t nst_two_products(uint32_t a, uint32_t b, int32_t sum) {
    int32_t result;
    __asm__("smlad %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
}

/* (a * b + 2^31) / 2^32, rounded down. */
static inline int32_t nst_high_product(int32_t a, int32_t b) {
    int32_t result;
    __asm__("smmulr %0, %1, %2" : "=r"(result) : "r"(a), "r"(b));
    return result;
}

/* sum + (a * b + 2^31) / 2^32, rounded down. */
static inline int32_t nst_add_high_product(int32_t sum, int32_t a, int32_t b) {
    int32_t result;
    __asm__("smmlar %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
}

/* The larger of each pair of signed bytes. */
static inline uint32_t nst_larger_bytes(uint32_t a, uint32_t b) {
    uint32_t result;
    __asm__("ssub8 %0, %1, %2\n\tsel %0, %1, %2" : "=&r"(result) : "r"(a), "r"(b) : "cc");
    return result;
}

/* The smaller of each pair of signed bytes. */
static inline uint32_t nst_smaller_bytes(uint32_t a, uint32_t b) {
    uint32_t result;
    __asm__("ssub8 %0, %1, %2\n\tsel %0, %2, %1" : "=&r"(result) : "r"(a), "r"(b) : "cc");
    return result;
}

static inline int32_t nst_saturate_to_int8(int32_t value) {
    int32_t result;
    __asm__("ssat %0, #8, %1" : "=r"(result) : "r"(value));
    return result;
}

#endif
