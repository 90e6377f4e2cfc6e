/* mul: out = clamp(requantize((self - self_zero_point) * (other - other_zero_point)) +
 * output_zero_point).
 *
 * Tensors: self int8, other int8, output int8; a shorter operand is repeated, as in add. */
#ifndef NESTLING_MICRO_KERNELS_MUL_H
#define NESTLING_MICRO_KERNELS_MUL_H

#include "micro/operator.h"

typedef struct nst_mul_params {
    uint32_t elements;       /* of the output */
    uint32_t self_elements;  /* elements, or a divisor of it; one of the two operands has all */
    uint32_t other_elements; /* elements, or a divisor of it */
    int32_t self_zero_point;
    int32_t other_zero_point;
    int32_t output_zero_point;
    int32_t output_multiplier;
    int32_t output_shift; /* -31 .. 15 */
} nst_mul_params;

extern const nst_operator nst_operator_mul;

void nst_mul_run(const void *params, void *const *tensors, void *scratch);

/* In every build: what the fast ones are compared with. */
void nst_mul_portable(const void *params, void *const *tensors, void *scratch);

#endif
