/* div: out = clamp(round((self - self_zero_point) / (other - other_zero_point) * scale) +
 * output_zero_point), in float32, ties to even; a quotient by zero is 0.
 *
 * Tensors: self int8, other int8, output int8, all of one size. */
#ifndef NESTLING_MICRO_KERNELS_DIV_H
#define NESTLING_MICRO_KERNELS_DIV_H

#include "micro/operator.h"

typedef struct nst_div_params {
    uint32_t elements;
    int32_t self_zero_point;
    int32_t other_zero_point;
    int32_t output_zero_point;
    float output_scale; /* scale_self / (scale_other * scale_output), positive */
} nst_div_params;

extern const nst_operator nst_operator_div;

void nst_div_run(const void *params, void *const *tensors, void *scratch);

#endif
