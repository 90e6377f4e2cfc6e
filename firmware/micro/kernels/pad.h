/* pad: the input surrounded by a constant.
 *
 * Tensors: input int8, output int8. Dimensions stand in the order of memory (NHWC for an image),
 * filled up with leading ones to four. */
#ifndef NESTLING_MICRO_KERNELS_PAD_H
#define NESTLING_MICRO_KERNELS_PAD_H

#include "micro/operator.h"

typedef struct nst_pad_params {
    uint32_t input_shape[4];
    uint32_t before[4];
    uint32_t after[4];
    int32_t value; /* of int8 */
} nst_pad_params;

extern const nst_operator nst_operator_pad;

void nst_pad_run(const void *params, void *const *tensors, void *scratch);

/* In every build: what the fast ones are compared with. */
void nst_pad_portable(const void *params, void *const *tensors, void *scratch);

#endif
