/* An operator without weights on random tensors: the fast kernel against the portable one. */
#ifndef NESTLING_MICRO_BENCH_OPERATION_H
#define NESTLING_MICRO_BENCH_OPERATION_H

#include "micro/bench/layer.h"
#include "micro/kernels/activation.h"
#include "micro/kernels/add.h"
#include "micro/kernels/avg_pool.h"
#include "micro/kernels/batch_matmul.h"
#include "micro/kernels/dequantize.h"
#include "micro/kernels/layer_norm.h"
#include "micro/kernels/max_pool.h"
#include "micro/kernels/minimum_maximum.h"
#include "micro/kernels/mul.h"
#include "micro/kernels/pad.h"
#include "micro/kernels/quantize.h"
#include "micro/kernels/softmax.h"
#include "micro/kernels/transpose.h"

typedef union bench_operation_params {
    nst_activation_params activation;
    nst_add_params add;
    nst_avg_pool_params avg_pool;
    nst_batch_matmul_params batch_matmul;
    nst_dequantize_params dequantize;
    nst_layer_norm_params layer_norm;
    nst_max_pool_params max_pool;
    nst_minimum_maximum_params minimum_maximum;
    nst_mul_params mul;
    nst_pad_params pad;
    nst_quantize_params quantize;
    nst_softmax_params softmax;
    nst_transpose_params transpose;
} bench_operation_params;

typedef struct bench_operation {
    const char *name;
    const nst_operator *operator;
    void (*portable)(const void *params, void *const *tensors, void *scratch);
    bench_operation_params params;
    uint32_t bytes[4]; /* of the tensors, as they stand in the plan */
    uint32_t floats;   /* bit i: input i holds float32 */
    uint32_t units;    /* what is counted: elements of the input, or MACs */
} bench_operation;

extern const bench_operation bench_named_operations[];
extern const uint32_t bench_named_operation_count;

/* Any operator, with small odd sizes and any legal numbers. */
bench_operation bench_random_operation(uint32_t *random);

/* Fill the inputs and run both kernels; `macs` of the result are the units. The inputs end at the
 * end of memory, one behind the other, so reads past the last of them fault. */
bench_result bench_run_operation(const bench_operation *operation, bench_memory memory,
                                 uint32_t *random);

#endif
