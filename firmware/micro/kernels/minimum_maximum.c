#include "micro/kernels/minimum_maximum.h"

#include "micro/kernels/broadcast.h"
#include "micro/kernels/variant.h"

static bool check(const void *params, const uint32_t *tensor_bytes, uint32_t scratch_bytes) {
    (void)scratch_bytes;
    const nst_minimum_maximum_params *p = params;
    return nst_broadcast_ok(p->elements, p->self_elements, p->other_elements, tensor_bytes);
}

static uint32_t scratch_bytes(const void *params) {
    (void)params;
    return 0;
}

const nst_operator nst_operator_minimum = {
    .name = "minimum",
    .params_bytes = sizeof(nst_minimum_maximum_params),
    .tensors = 3,
    .check = check,
    .scratch_bytes = scratch_bytes,
    .run = nst_minimum_run,
};

const nst_operator nst_operator_maximum = {
    .name = "maximum",
    .params_bytes = sizeof(nst_minimum_maximum_params),
    .tensors = 3,
    .check = check,
    .scratch_bytes = scratch_bytes,
    .run = nst_maximum_run,
};

void nst_minimum_portable(const void *params, void *const *tensors, void *scratch) {
    (void)scratch;
    const nst_minimum_maximum_params *p = params;
    nst_broadcast walk = nst_broadcast_begin(p->elements, p->self_elements, p->other_elements);
    do {
        const int8_t *self = (const int8_t *)tensors[0] + walk.self;
        const int8_t *other = (const int8_t *)tensors[1] + walk.other;
        int8_t *output = (int8_t *)tensors[2] + walk.output;
        for (uint32_t i = 0; i < walk.count; ++i) {
            output[i] = self[i] < other[i] ? self[i] : other[i];
        }
    } while (nst_broadcast_next(&walk));
}

void nst_maximum_portable(const void *params, void *const *tensors, void *scratch) {
    (void)scratch;
    const nst_minimum_maximum_params *p = params;
    nst_broadcast walk = nst_broadcast_begin(p->elements, p->self_elements, p->other_elements);
    do {
        const int8_t *self = (const int8_t *)tensors[0] + walk.self;
        const int8_t *other = (const int8_t *)tensors[1] + walk.other;
        int8_t *output = (int8_t *)tensors[2] + walk.output;
        for (uint32_t i = 0; i < walk.count; ++i) {
            output[i] = self[i] > other[i] ? self[i] : other[i];
        }
    } while (nst_broadcast_next(&walk));
}

#if !NST_MVE

void nst_minimum_run(const void *params, void *const *tensors, void *scratch) {
    nst_minimum_portable(params, tensors, scratch);
}

void nst_maximum_run(const void *params, void *const *tensors, void *scratch) {
    nst_maximum_portable(params, tensors, scratch);
}

#endif
