/* batch_matmul with MVE: one row of lhs against four of rhs at a time. */
#include "micro/kernels/batch_matmul.h"
#include "micro/kernels/variant.h"

#if NST_MVE

#include <arm_mve.h>
#include <stddef.h>

static int32_t sum_of(const int8_t *values, uint32_t count) {
    int32_t sum = 0;
    __asm__ volatile(
        "   wlstp.8 lr, %[count], 2f\n"
        "1: vldrb.8 q0, [%[values]], #16\n"
        "   vaddva.s8 %[sum], q0\n"
        "   letp lr, 1b\n"
        "2:\n"
        : [values] "+r"(values), [sum] "+Te"(sum)
        : [count] "r"(count)
        : "q0", "lr", "memory");
    return sum;
}

/* Four sums of products: of `row` with four rows of rhs that follow each other. */
static int32x4_t products_of(const int8_t *row, const int8_t *rhs, uint32_t inner) {
    const int8_t *rhs1 = rhs + inner;
    const int8_t *rhs2 = rhs1 + inner;
    const int8_t *rhs3 = rhs2 + inner;
    int32_t sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;
    int32x4_t sums;
    __asm__(
        "   wlstp.8 lr, %[count], 2f\n"
        "1: vldrb.8 q0, [%[row]], #16\n"
        "   vldrb.8 q1, [%[rhs0]], #16\n"
        "   vmladava.s8 %[sum0], q0, q1\n"
        "   vldrb.8 q2, [%[rhs1]], #16\n"
        "   vmladava.s8 %[sum1], q0, q2\n"
        "   vldrb.8 q1, [%[rhs2]], #16\n"
        "   vmladava.s8 %[sum2], q0, q1\n"
        "   vldrb.8 q2, [%[rhs3]], #16\n"
        "   vmladava.s8 %[sum3], q0, q2\n"
        "   letp lr, 1b\n"
        "2: vmov %q[sums][2], %q[sums][0], %[sum0], %[sum2]\n"
        "   vmov %q[sums][3], %q[sums][1], %[sum1], %[sum3]\n"
        : [row] "+r"(row), [rhs0] "+r"(rhs), [rhs1] "+r"(rhs1), [rhs2] "+r"(rhs2),
          [rhs3] "+r"(rhs3), [sum0] "+Te"(sum0), [sum1] "+Te"(sum1), [sum2] "+Te"(sum2),
          [sum3] "+Te"(sum3), [sums] "=w"(sums)
        : [count] "r"(inner)
        : "q0", "q1", "q2", "lr", "memory");
    return sums;
}

/* The lowest byte of each lane is its value, clamped to int8. */
static int32x4_t saturated(int32x4_t values) {
    int16x8_t halves = vqmovnbq_s32(vreinterpretq_s16_s32(values), values);
    return vreinterpretq_s32_s8(vqmovnbq_s16(vreinterpretq_s8_s16(halves), halves));
}

void nst_batch_matmul_run(const void *params, void *const *tensors, void *scratch) {
    const nst_batch_matmul_params *p = params;
    if (p->columns < 4 || p->output_shift >= 0 || p->output_multiplier <= 0) {
        nst_batch_matmul_portable(params, tensors, scratch);
        return;
    }
    const uint32_t inner = p->inner;
    const uint32_t columns = p->columns;
    /* What the zero points add to the products of a column: inner * lz * rz - lz * (sum of the
     * column). */
    int32_t *corrections = scratch;
    const int8_t *lhs = tensors[0];
    const int8_t *rhs = tensors[1];
    int8_t *output = tensors[2];
    for (uint32_t b = 0; b < p->batches; ++b, rhs += (size_t)columns * inner) {
        for (uint32_t c = 0; c < columns; ++c) {
            corrections[c] = p->lhs_zero_point == 0
                                 ? 0
                                 : p->lhs_zero_point * ((int32_t)inner * p->rhs_zero_point -
                                                        sum_of(rhs + (size_t)c * inner, inner));
        }
        for (uint32_t row = 0; row < p->rows; ++row, lhs += inner, output += columns) {
            const int32_t base =
                p->rhs_zero_point == 0 ? 0 : -p->rhs_zero_point * sum_of(lhs, inner);
            for (uint32_t next = 0; next < columns; next += 4) {
                /* The last four may overlap the ones before: the same values again. */
                const uint32_t c = next + 4 <= columns ? next : columns - 4;
                int32x4_t sums = products_of(lhs, rhs + (size_t)c * inner, inner);
                sums = vaddq_n_s32(vaddq_s32(sums, vld1q_s32(corrections + c)), base);
                /* Round ties away from zero, as add does. */
                int32x4_t values = vshrq_n_s32(sums, 31);
                values = vqrdmlahq_n_s32(values, sums, p->output_multiplier);
                values = vrshlq_n_s32(values, p->output_shift);
                vstrbq_s32(output + c, saturated(vqaddq_n_s32(values, p->output_zero_point)));
            }
        }
    }
}

#endif
