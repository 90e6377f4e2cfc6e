#include "divide.h"

uint64_t nst_divide_u64(uint64_t number, uint16_t divisor, uint16_t *out_rest) {
    uint64_t quotient = 0;
    uint32_t rest = 0;
    /* 16 bits at a time, the highest first, as on paper. */
    for (int digit = 0; digit < 4; digit++) {
        uint32_t part = rest << 16 | (uint32_t)(number >> 48);
        quotient = quotient << 16 | part / divisor;
        rest = part % divisor;
        number <<= 16;
    }
    *out_rest = (uint16_t)rest;
    return quotient;
}
