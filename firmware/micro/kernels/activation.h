/* activation: any function of one int8 value, from a table: out = table[in + 128].
 *
 * Tensors: input int8, table int8[256] (constant), output int8. */
#ifndef NESTLING_MICRO_KERNELS_ACTIVATION_H
#define NESTLING_MICRO_KERNELS_ACTIVATION_H

#include "micro/operator.h"

typedef struct nst_activation_params {
    uint32_t elements;
} nst_activation_params;

extern const nst_operator nst_operator_activation;

void nst_activation_run(const void *params, void *const *tensors, void *scratch);

/* In every build: what the fast ones are compared with. */
void nst_activation_portable(const void *params, void *const *tensors, void *scratch);

#endif
