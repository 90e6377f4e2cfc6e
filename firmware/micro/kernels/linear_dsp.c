#include "micro/kernels/linear.h"
#include "micro/kernels/variant.h"

#if NST_DSP

#include "micro/kernels/rows_dsp.h"
#include "micro/kernels/scale_dsp.h"

void nst_linear_run(const void *params, void *const *tensors, void *scratch) {
    const nst_linear_params *p = params;
    if (p->layout != NST_LAYOUT_DSP) {
        nst_linear_portable(params, tensors, scratch);
        return;
    }
    const nst_dsp_rows rows = {
        .weights = tensors[1],
        .channels = tensors[2],
        .rows = p->outputs,
        .taps = (uint32_t)nst_round_up(p->inputs, 4),
        .scaling = (nst_scaling)p->scaling,
        .zero_point = p->output_zero_point,
    };
    uint32_t *columns = scratch;
    const int8_t *input = tensors[0];
    int8_t *output = tensors[3];
    for (uint32_t left = p->batches; left > 0;) {
        const uint32_t count = left >= 3 ? 3 : 1;
        for (uint32_t i = 0; i < count; ++i, input += p->inputs) {
            nst_dsp_column column = nst_dsp_begin_column(columns, count, i);
            nst_dsp_append(&column, input, p->inputs);
            nst_dsp_end_column(columns, i, column);
        }
        if (count == 3) {
            nst_dsp_three_columns(&rows, columns, output, p->outputs);
        } else {
            nst_dsp_one_column(&rows, columns, output);
        }
        output += count * p->outputs;
        left -= count;
    }
    nst_dsp_clamp(tensors[3], p->batches * p->outputs, p->activation_min, p->activation_max);
}

#endif
