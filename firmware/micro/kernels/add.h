/* add: out = clamp(requantize(A(self) + B(other)) + zero_point), where A and B bring both operands
 * to one scale: A(q) = requantize((q - zero_point) << 20, multiplier, shift). Subtraction is a
 * negative other_multiplier.
 *
 * Tensors: self int8, other int8, output int8. An operand may be shorter than the output: it is
 * then repeated, so a vector of one value a channel is added to every pixel of an NHWC image. */
#ifndef NESTLING_MICRO_KERNELS_ADD_H
#define NESTLING_MICRO_KERNELS_ADD_H

#include "micro/operator.h"

typedef struct nst_add_params {
    uint32_t elements;       /* of the output */
    uint32_t self_elements;  /* elements, or a divisor of it; one of the two operands has all */
    uint32_t other_elements; /* elements, or a divisor of it */
    int32_t self_zero_point;
    int32_t self_multiplier;
    int32_t self_shift; /* positive: to the left, as CMSIS-NN has it */
    int32_t other_zero_point;
    int32_t other_multiplier;
    int32_t other_shift;
    int32_t output_zero_point;
    int32_t output_multiplier;
    int32_t output_shift;
    int32_t activation_min;
    int32_t activation_max;
} nst_add_params;

extern const nst_operator nst_operator_add;

void nst_add_run(const void *params, void *const *tensors, void *scratch);

/* In every build: what the fast ones are compared with. */
void nst_add_portable(const void *params, void *const *tensors, void *scratch);

#endif
