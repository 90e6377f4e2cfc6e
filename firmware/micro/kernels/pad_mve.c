/* pad with MVE: the whole output is filled, then the rows are copied into it. */
#include "micro/kernels/pad.h"
#include "micro/kernels/variant.h"

#if NST_MVE

#include <stddef.h>

#include "micro/kernels/copy_mve.h"

void nst_pad_run(const void *params, void *const *tensors, void *scratch) {
    (void)scratch;
    const nst_pad_params *p = params;
    const int8_t *input = tensors[0];
    const uint32_t *in = p->input_shape;
    const size_t row = (size_t)p->before[3] + in[3] + p->after[3];
    const size_t plane = row * ((size_t)p->before[2] + in[2] + p->after[2]);
    const size_t block = plane * ((size_t)p->before[1] + in[1] + p->after[1]);
    nst_fill_mve(tensors[1], p->value, block * ((size_t)p->before[0] + in[0] + p->after[0]));
    int8_t *first = (int8_t *)tensors[1] + p->before[0] * block + p->before[1] * plane +
                    p->before[2] * row + p->before[3];
    for (uint32_t a = 0; a < in[0]; ++a) {
        for (uint32_t b = 0; b < in[1]; ++b) {
            int8_t *output = first + a * block + b * plane;
            for (uint32_t c = 0; c < in[2]; ++c, output += row, input += in[3]) {
                nst_copy_mve(output, input, in[3]);
            }
        }
    }
}

#endif
