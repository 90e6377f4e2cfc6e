/* softmax with MVE: four values at a time. */
#include "micro/kernels/softmax.h"
#include "micro/kernels/variant.h"

#if NST_MVE_FLOAT

#include <arm_mve.h>

#include "micro/kernels/exponential.h"

/* In the order in which softmax_terms_mve.S loads them. */
typedef struct nst_softmax_constants {
    float c5[4];
    float scale[4];
    float minus_log2_e[4];
    int32_t zero_point;
    float largest; /* real value of the row's largest element */
    float ln2_high;
    float ln2_low;
    float c6;
    float c4;
    float c3;
    float c2;
    float half;
    float one;
} nst_softmax_constants;

void nst_softmax_terms_mve(const int8_t *row, float *terms, uint32_t count,
                           const nst_softmax_constants *constants, float *lanes);

static int32_t largest_of(const int8_t *row, uint32_t columns) {
    int32_t largest = INT8_MIN;
    __asm__ volatile(
        "   wlstp.8 lr, %[count], 2f\n"
        "1: vldrb.8 q0, [%[row]], #16\n"
        "   vmaxv.s8 %[largest], q0\n"
        "   letp lr, 1b\n"
        "2:\n"
        : [row] "+r"(row), [largest] "+r"(largest)
        : [count] "r"(columns)
        : "q0", "lr", "memory");
    return largest;
}

/* output = round(terms * factor) - 128, at most 127. */
static void write_row(const float *terms, float factor, int8_t *output, uint32_t columns) {
    __asm__ volatile(
        "   vmov.i32 q1, #127\n"
        "   wlstp.32 lr, %[count], 2f\n"
        "1: vldrw.32 q0, [%[terms]], #16\n"
        "   vmul.f32 q0, q0, %[factor]\n"
        "   vcvtn.s32.f32 q0, q0\n"
        "   vsub.i32 q0, q0, %[offset]\n"
        "   vmin.s32 q0, q0, q1\n"
        "   vstrb.32 q0, [%[output]], #4\n"
        "   letp lr, 1b\n"
        "2:\n"
        : [terms] "+r"(terms), [output] "+l"(output)
        : [count] "r"(columns), [factor] "r"(factor), [offset] "r"(128)
        : "q0", "q1", "lr", "memory");
}

/* The sum of a row in torch's order: value i belongs to lane i mod 8. */
static float sum_of(const nst_softmax_constants *constants, const int8_t *row, uint32_t columns,
                    float *terms) {
    const uint32_t whole = columns / 8 * 4;
    const uint32_t rest = columns % 8;
    float lanes[8];
    nst_softmax_terms_mve(row, terms, whole + (rest < 4 ? rest : 4), constants, lanes);
    nst_softmax_terms_mve(row + 4, terms + 4, whole + (rest < 4 ? 0 : rest - 4), constants,
                          lanes + 4);
    if (columns >= 8) {
        return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
               ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
    }
    float sum = terms[0];
    for (uint32_t i = 1; i < columns; ++i) {
        sum += terms[i];
    }
    return sum;
}

void nst_softmax_run(const void *params, void *const *tensors, void *scratch) {
    const nst_softmax_params *p = params;
    nst_softmax_constants constants = {
        .zero_point = p->input_zero_point,
        .ln2_high = NST_EXP_LN2_HIGH,
        .ln2_low = NST_EXP_LN2_LOW,
        .c6 = NST_EXP_C6,
        .c4 = NST_EXP_C4,
        .c3 = NST_EXP_C3,
        .c2 = NST_EXP_C2,
        .half = 0.5f,
        .one = 1.0f,
    };
    for (uint32_t i = 0; i < 4; ++i) {
        constants.c5[i] = NST_EXP_C5;
        constants.scale[i] = p->input_scale;
        constants.minus_log2_e[i] = -NST_EXP_LOG2_E;
    }
    const int8_t *input = tensors[0];
    int8_t *output = tensors[1];
    for (uint32_t row = 0; row < p->rows; ++row, input += p->columns, output += p->columns) {
        constants.largest =
            (float)(largest_of(input, p->columns) - p->input_zero_point) * p->input_scale;
        /* Times 256 is exact, so the product's rounding is that of the probability. */
        const float factor = 1.0f / sum_of(&constants, input, p->columns, scratch) * 256.0f;
        write_row(scratch, factor, output, p->columns);
    }
}

#endif
