/* minimum, maximum: the smaller and the larger of two int8 values on one scale. Two operators, one
 * record.
 *
 * Tensors: self int8, other int8, output int8; a shorter operand is repeated, as in add. */
#ifndef NESTLING_MICRO_KERNELS_MINIMUM_MAXIMUM_H
#define NESTLING_MICRO_KERNELS_MINIMUM_MAXIMUM_H

#include "micro/operator.h"

typedef struct nst_minimum_maximum_params {
    uint32_t elements;       /* of the output */
    uint32_t self_elements;  /* elements, or a divisor of it; one of the two operands has all */
    uint32_t other_elements; /* elements, or a divisor of it */
} nst_minimum_maximum_params;

extern const nst_operator nst_operator_minimum;
extern const nst_operator nst_operator_maximum;

void nst_minimum_run(const void *params, void *const *tensors, void *scratch);
void nst_minimum_portable(const void *params, void *const *tensors, void *scratch);
void nst_maximum_run(const void *params, void *const *tensors, void *scratch);
void nst_maximum_portable(const void *params, void *const *tensors, void *scratch);

#endif
