#include "micro/kernels/batch_matmul.h"

#include "micro/kernels/check.h"
#include "micro/kernels/requantize.h"
#include "micro/kernels/variant.h"

#define LARGEST_INNER 33024u /* times 255 * 255 it is below 2^31 */

static uint32_t scratch_bytes(const void *params) {
    const nst_batch_matmul_params *p = params;
    return p->columns * (uint32_t)sizeof(int32_t);
}

static bool check(const void *params, const uint32_t *tensor_bytes, uint32_t scratch) {
    const nst_batch_matmul_params *p = params;
    const uint32_t lhs[3] = {p->batches, p->rows, p->inner};
    const uint32_t rhs[3] = {p->batches, p->columns, p->inner};
    const uint32_t output[3] = {p->batches, p->rows, p->columns};
    if (!nst_fits(lhs, 3, tensor_bytes[0]) || !nst_fits(rhs, 3, tensor_bytes[1]) ||
        !nst_fits(output, 3, tensor_bytes[2]) || p->inner > LARGEST_INNER ||
        p->columns > UINT32_MAX / sizeof(int32_t) || scratch_bytes(p) > scratch ||
        !nst_is_int8(p->lhs_zero_point) || !nst_is_int8(p->rhs_zero_point) ||
        !nst_is_int8(p->output_zero_point) || p->output_shift < -31 || p->output_shift > 30) {
        return false;
    }
    const uint64_t largest = (uint64_t)255 * 255 * p->inner;
    return p->output_shift <= 0 || largest << p->output_shift <= INT32_MAX;
}

const nst_operator nst_operator_batch_matmul = {
    .name = "quantized_batch_matmul",
    .params_bytes = sizeof(nst_batch_matmul_params),
    .tensors = 3,
    .check = check,
    .scratch_bytes = scratch_bytes,
    .run = nst_batch_matmul_run,
};

void nst_batch_matmul_portable(const void *params, void *const *tensors, void *scratch) {
    (void)scratch;
    const nst_batch_matmul_params *p = params;
    const uint32_t inner = p->inner;
    const int8_t *lhs = tensors[0];
    const int8_t *rhs = tensors[1];
    int8_t *output = tensors[2];
    for (uint32_t b = 0; b < p->batches; ++b, rhs += (size_t)p->columns * inner) {
        for (uint32_t row = 0; row < p->rows; ++row, lhs += inner) {
            const int8_t *column = rhs;
            for (uint32_t c = 0; c < p->columns; ++c, column += inner) {
                int32_t sum = 0;
                for (uint32_t k = 0; k < inner; ++k) {
                    sum += (lhs[k] - p->lhs_zero_point) * (column[k] - p->rhs_zero_point);
                }
                const int32_t value = nst_requantize(sum, p->output_multiplier, p->output_shift);
                *output++ = nst_to_int8(value, p->output_zero_point, INT8_MIN, INT8_MAX);
            }
        }
    }
}

#if !NST_MVE && !NST_DSP

void nst_batch_matmul_run(const void *params, void *const *tensors, void *scratch) {
    nst_batch_matmul_portable(params, tensors, scratch);
}

#endif
