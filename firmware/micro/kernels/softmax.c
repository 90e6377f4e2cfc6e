#include "micro/kernels/softmax.h"

#include "micro/kernels/check.h"
#include "micro/kernels/exponential.h"
#include "micro/kernels/float_order.h"
#include "micro/kernels/rounding.h"
#include "micro/kernels/variant.h"

#define LANES 8u

static uint32_t scratch_bytes(const void *params) {
    const nst_softmax_params *p = params;
    return p->columns * (uint32_t)sizeof(float);
}

static bool check(const void *params, const uint32_t *tensor_bytes, uint32_t scratch) {
    const nst_softmax_params *p = params;
    const uint32_t shape[2] = {p->rows, p->columns};
    return nst_fits(shape, 2, tensor_bytes[0]) && nst_fits(shape, 2, tensor_bytes[1]) &&
           p->columns <= UINT32_MAX / sizeof(float) && scratch_bytes(p) <= scratch &&
           nst_is_int8(p->input_zero_point) && nst_is_scale(p->input_scale);
}

const nst_operator nst_operator_softmax = {
    .name = "softmax",
    .params_bytes = sizeof(nst_softmax_params),
    .tensors = 2,
    .check = check,
    .scratch_bytes = scratch_bytes,
    .run = nst_softmax_run,
};

static int32_t largest_of(const int8_t *row, uint32_t columns) {
    int8_t largest = row[0];
    for (uint32_t i = 1; i < columns; ++i) {
        largest = row[i] > largest ? row[i] : largest;
    }
    return largest;
}

/* Writes exp(x - largest x) of a row to `terms` and returns their sum. */
static float exponentials(const nst_softmax_params *p, const int8_t *row, float *terms) {
    const uint32_t columns = p->columns;
    const int32_t zero_point = p->input_zero_point;
    const float scale = p->input_scale;
    const float largest = (float)(largest_of(row, columns) - zero_point) * scale;
    float lanes[LANES];
    for (uint32_t lane = 0; lane < LANES; ++lane) {
        float sum = 0.0f;
        for (uint32_t i = lane; i < columns; i += LANES) {
            const float x = (float)(row[i] - zero_point) * scale;
            terms[i] = nst_exp(x - largest);
            sum += terms[i];
        }
        lanes[lane] = sum;
    }
    if (columns >= LANES) {
        return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
               ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
    }
    float sum = lanes[0];
    for (uint32_t i = 1; i < columns; ++i) {
        sum += lanes[i];
    }
    return sum;
}

void nst_softmax_portable(const void *params, void *const *tensors, void *scratch) {
    const nst_softmax_params *p = params;
    const int8_t *input = tensors[0];
    int8_t *output = tensors[1];
    float *terms = scratch;
    const uint32_t columns = p->columns;
    for (uint32_t row = 0; row < p->rows; ++row, input += columns, output += columns) {
        /* Times 256 is exact, so the product's rounding is that of the probability. */
        const float factor = 1.0f / exponentials(p, input, terms) * 256.0f;
        for (uint32_t i = 0; i < columns; ++i) {
            output[i] = nst_round_to_int8(terms[i] * factor, -128, INT8_MIN, INT8_MAX);
        }
    }
}

#if !NST_MVE_FLOAT

void nst_softmax_run(const void *params, void *const *tensors, void *scratch) {
    nst_softmax_portable(params, tensors, scratch);
}

#endif
