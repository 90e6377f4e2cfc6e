#include "micro/kernels/linear.h"
#include "micro/kernels/variant.h"

#if NST_MVE

#include "micro/kernels/copy_mve.h"
#include "micro/kernels/matmul_mve.h"

void nst_linear_run(const void *params, void *const *tensors, void *scratch) {
    const nst_linear_params *p = params;
    const int8_t *input = tensors[0];
    int8_t *output = tensors[3];
    const uint32_t vectors = (p->inputs + 15) / 16;
    nst_matmul_strip strip = {
        .column0 = input,
        .column1 = input + p->inputs,
        .run_vectors = vectors,
        .runs = 1,
        .weights = tensors[1],
        .channels = tensors[2],
        .rows = p->outputs,
        .output0 = output,
        .output1_offset = p->outputs,
        .pairs = 1,
        .column_step = 2 * p->inputs,
        .output_step = 2 * p->outputs,
        .zero_point = p->output_zero_point,
        .low = p->activation_min,
        .high = p->activation_max,
        .scaling = p->scaling,
    };
    /* Rows that may be read in whole vectors: those from which the end of the tensor is far
     * enough. */
    const uint32_t excess = vectors * 16 - p->inputs;
    const uint32_t unsafe = (excess + p->inputs - 1) / p->inputs;
    uint32_t row = 0;
    uint32_t safe = p->batches > unsafe ? p->batches - unsafe : 0;
    if (safe >= 2) {
        strip.pairs = safe / 2;
        nst_matmul_mve_pairs(&strip);
        row = safe / 2 * 2;
        strip.pairs = 1;
    }
    if (row == p->batches) {
        return;
    }
    if (row + 1 == p->batches && safe == p->batches) {
        strip.column0 = input + row * p->inputs;
        strip.output0 = output + row * p->outputs;
        nst_matmul_mve_single(&strip);
        return;
    }
    nst_matmul_queue queue = {
        .strip = strip, .slots = scratch, .column_bytes = vectors * 16, .waiting = 0};
    for (; row < p->batches; ++row) {
        nst_copy_mve(nst_matmul_queue_slot(&queue), input + row * p->inputs, p->inputs);
        nst_matmul_queue_push(&queue, output + row * p->outputs);
    }
    nst_matmul_queue_flush(&queue);
}

#endif
