#include "micro/kernels/pad.h"

#include <string.h>

#include "micro/kernels/check.h"
#include "micro/kernels/variant.h"

static bool check(const void *params, const uint32_t *tensor_bytes, uint32_t scratch_bytes) {
    (void)scratch_bytes;
    const nst_pad_params *p = params;
    uint32_t output_shape[4];
    for (unsigned i = 0; i < 4; ++i) {
        const uint64_t size = (uint64_t)p->before[i] + p->input_shape[i] + p->after[i];
        if (size > UINT32_MAX) {
            return false;
        }
        output_shape[i] = (uint32_t)size;
    }
    return nst_fits(p->input_shape, 4, tensor_bytes[0]) &&
           nst_fits(output_shape, 4, tensor_bytes[1]) && nst_is_int8(p->value);
}

static uint32_t scratch_bytes(const void *params) {
    (void)params;
    return 0;
}

const nst_operator nst_operator_pad = {
    .name = "pad",
    .params_bytes = sizeof(nst_pad_params),
    .tensors = 2,
    .check = check,
    .scratch_bytes = scratch_bytes,
    .run = nst_pad_run,
};

static int8_t *fill(int8_t *output, int32_t value, size_t count) {
    memset(output, value, count);
    return output + count;
}

void nst_pad_portable(const void *params, void *const *tensors, void *scratch) {
    (void)scratch;
    const nst_pad_params *p = params;
    const int8_t *input = tensors[0];
    int8_t *output = tensors[1];
    const uint32_t *in = p->input_shape;
    const size_t row = (size_t)p->before[3] + in[3] + p->after[3];
    const size_t plane = row * ((size_t)p->before[2] + in[2] + p->after[2]);
    const size_t block = plane * ((size_t)p->before[1] + in[1] + p->after[1]);
    output = fill(output, p->value, block * p->before[0]);
    for (uint32_t a = 0; a < in[0]; ++a) {
        output = fill(output, p->value, plane * p->before[1]);
        for (uint32_t b = 0; b < in[1]; ++b) {
            output = fill(output, p->value, row * p->before[2]);
            for (uint32_t c = 0; c < in[2]; ++c) {
                output = fill(output, p->value, p->before[3]);
                memcpy(output, input, in[3]);
                input += in[3];
                output = fill(output + in[3], p->value, p->after[3]);
            }
            output = fill(output, p->value, row * p->after[2]);
        }
        output = fill(output, p->value, plane * p->after[1]);
    }
    fill(output, p->value, block * p->after[0]);
}

#if !NST_MVE

void nst_pad_run(const void *params, void *const *tensors, void *scratch) {
    nst_pad_portable(params, tensors, scratch);
}

#endif
