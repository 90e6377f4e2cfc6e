/* Division of 64-bit numbers by small ones, for processors whose compilers need a kilobyte for
 * `a / b`. */
#ifndef NESTLING_CORE_DIVIDE_H
#define NESTLING_CORE_DIVIDE_H

#include <stdint.h>

/* The quotient; `out_rest` takes the remainder. `divisor` is not 0. */
uint64_t nst_divide_u64(uint64_t number, uint16_t divisor, uint16_t *out_rest);

#endif
