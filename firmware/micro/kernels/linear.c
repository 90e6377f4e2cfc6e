#include "micro/kernels/linear.h"

#include "micro/kernels/check.h"
#include "micro/kernels/matmul_mve.h"
#include "micro/kernels/requantize.h"
#include "micro/kernels/rows_dsp.h"
#include "micro/kernels/variant.h"

static uint64_t scratch_need(const nst_linear_params *p) {
    if (nst_layout_is_dsp(p->layout)) {
        return nst_dsp_columns_bytes(p->batches < 3 ? 1 : 3, nst_round_up(p->inputs, 4));
    }
    return p->layout == NST_LAYOUT_MVE ? 2 * nst_round_up(p->inputs, 16) : 0;
}

static bool check(const void *params, const uint32_t *tensor_bytes, uint32_t scratch_bytes) {
    const nst_linear_params *p = params;
    const uint32_t input[2] = {p->batches, p->inputs};
    const uint32_t output[2] = {p->batches, p->outputs};
    const uint32_t weights[2] = {p->outputs, p->inputs};
    return nst_matmul_knows(p->layout, p->outputs) && nst_fits(input, 2, tensor_bytes[0]) &&
           nst_fits(output, 2, tensor_bytes[3]) && nst_fits(weights, 2, tensor_bytes[1]) &&
           nst_matrix_bytes(nst_linear_matrix(p)) <= tensor_bytes[1] &&
           nst_matrix_channels_bytes((nst_layout)p->layout, p->outputs) <= tensor_bytes[2] &&
           scratch_need(p) <= scratch_bytes && nst_is_int8(p->output_zero_point) &&
           nst_are_bounds(p->activation_min, p->activation_max);
}

static uint32_t scratch_bytes(const void *params) {
    return (uint32_t)scratch_need(params);
}

const nst_operator nst_operator_linear = {
    .name = "quantized_linear",
    .params_bytes = sizeof(nst_linear_params),
    .tensors = 4,
    .check = check,
    .scratch_bytes = scratch_bytes,
    .run = nst_linear_run,
};

void nst_linear_portable(const void *params, void *const *tensors, void *scratch) {
    (void)scratch;
    /* A copy, which no write to the output can change. */
    const nst_linear_params copy = *(const nst_linear_params *)params;
    const nst_linear_params *p = &copy;
    const nst_matrix matrix = nst_linear_matrix(p);
    const int8_t *input = tensors[0];
    const int8_t *weights = tensors[1];
    int8_t *output = tensors[3];
    for (uint32_t batch = 0; batch < p->batches; ++batch, input += p->inputs) {
        for (uint32_t row = 0; row < p->outputs; ++row) {
            nst_channel channel = nst_matrix_channel(matrix.layout, tensors[2], row);
            uint32_t sum = (uint32_t)channel.bias +
                           nst_matrix_dot(matrix, weights, row, 0, 0, input, p->inputs);
            int32_t value = nst_rescale((int32_t)sum, (nst_scaling)p->scaling, channel.multiplier,
                                        channel.scale);
            *output++ =
                nst_to_int8(value, p->output_zero_point, p->activation_min, p->activation_max);
        }
    }
}

#if !NST_MVE && !NST_DSP

void nst_linear_run(const void *params, void *const *tensors, void *scratch) {
    nst_linear_portable(params, tensors, scratch);
}

#endif
