#include "micro/kernels/batch_matmul.h"
#include "micro/kernels/variant.h"

#if NST_DSP

#include "micro/kernels/scale_dsp.h"

/* Below this, twice a sum fits 32 bits. */
#define LARGEST_INNER (INT32_MAX / 2 / (255 * 255))

/* Two rows of one operand and two of the other. */
typedef struct operands {
    const int8_t *lhs[2];
    const int8_t *rhs[2];
} operands;

/* Adds the products of two by two rows: sums of (0, 0), (0, 1), (1, 0), (1, 1). */
static inline void add_products(operands at, uint32_t inner, int32_t *sums) {
    int32_t s00 = 0, s01 = 0, s10 = 0, s11 = 0;
    const int8_t *l0 = at.lhs[0], *l1 = at.lhs[1], *r0 = at.rhs[0], *r1 = at.rhs[1];
    for (; inner >= 4; inner -= 4) {
        const uint32_t lw0 = nst_load_word(l0), lw1 = nst_load_word(l1);
        const uint32_t rw0 = nst_load_word(r0), rw1 = nst_load_word(r1);
        const uint32_t le0 = nst_even_bytes(lw0), le1 = nst_even_bytes(lw1);
        const uint32_t re0 = nst_even_bytes(rw0), re1 = nst_even_bytes(rw1);
        s00 = nst_two_products(le0, re0, s00);
        s01 = nst_two_products(le0, re1, s01);
        s10 = nst_two_products(le1, re0, s10);
        s11 = nst_two_products(le1, re1, s11);
        const uint32_t lo0 = nst_odd_bytes(lw0), lo1 = nst_odd_bytes(lw1);
        const uint32_t ro0 = nst_odd_bytes(rw0), ro1 = nst_odd_bytes(rw1);
        s00 = nst_two_products(lo0, ro0, s00);
        s01 = nst_two_products(lo0, ro1, s01);
        s10 = nst_two_products(lo1, ro0, s10);
        s11 = nst_two_products(lo1, ro1, s11);
        l0 += 4, l1 += 4, r0 += 4, r1 += 4;
    }
    for (; inner > 0; --inner, ++l0, ++l1, ++r0, ++r1) {
        s00 += *l0 * *r0;
        s01 += *l0 * *r1;
        s10 += *l1 * *r0;
        s11 += *l1 * *r1;
    }
    sums[0] = s00;
    sums[1] = s01;
    sums[2] = s10;
    sums[3] = s11;
}

static int32_t sum_of(const int8_t *values, uint32_t count) {
    int32_t sum = 0;
    for (; count >= 4; count -= 4, values += 4) {
        const uint32_t word = nst_load_word(values);
        sum = nst_two_products(nst_even_bytes(word), 0x00010001u, sum);
        sum = nst_two_products(nst_odd_bytes(word), 0x00010001u, sum);
    }
    for (; count > 0; --count) {
        sum += *values++;
    }
    return sum;
}

/* Two rows of the output, or one (then both rows of lhs are the same, and so are both outputs).
 * `columns`: for each column, what its sum and both zero points add. */
static void run_rows(const nst_batch_matmul_params *p, const int8_t *const lhs[2],
                     const int8_t *rhs, const int32_t *columns, int8_t *const output[2]) {
    const uint32_t inner = p->inner;
    const int32_t row_terms[2] = {-p->rhs_zero_point * sum_of(lhs[0], inner),
                                  -p->rhs_zero_point * sum_of(lhs[1], inner)};
    for (uint32_t c = 0; c < p->columns; c += 2, rhs += 2 * inner) {
        const uint32_t count = c + 1 < p->columns ? 2 : 1;
        const operands at = {{lhs[0], lhs[1]}, {rhs, count == 2 ? rhs + inner : rhs}};
        int32_t sums[4];
        add_products(at, inner, sums);
        for (uint32_t i = 0; i < count; ++i) {
            const nst_channel channel = {columns[c + i], p->output_multiplier, p->output_shift};
            for (uint32_t row = 0; row < 2; ++row) {
                const int32_t sum = sums[2 * row + i] + row_terms[row];
                output[row][c + i] = nst_dsp_shift(2 * sum, channel, p->output_zero_point);
            }
        }
    }
}

void nst_batch_matmul_run(const void *params, void *const *tensors, void *scratch) {
    const nst_batch_matmul_params *p = params;
    const uint32_t inner = p->inner;
    if (inner > LARGEST_INNER) {
        nst_batch_matmul_portable(params, tensors, scratch);
        return;
    }
    int32_t *columns = scratch;
    const int8_t *lhs = tensors[0];
    const int8_t *rhs = tensors[1];
    int8_t *output = tensors[2];
    for (uint32_t batch = 0; batch < p->batches; ++batch) {
        for (uint32_t c = 0; c < p->columns; ++c) {
            columns[c] = p->lhs_zero_point *
                         ((int32_t)inner * p->rhs_zero_point - sum_of(rhs + c * inner, inner));
        }
        for (uint32_t row = 0; row < p->rows; row += 2) {
            const uint32_t count = row + 1 < p->rows ? 2 : 1;
            const int8_t *const rows[2] = {lhs, count == 2 ? lhs + inner : lhs};
            int8_t *const outputs[2] = {output, count == 2 ? output + p->columns : output};
            run_rows(p, rows, rhs, columns, outputs);
            lhs += count * inner;
            output += count * p->columns;
        }
        rhs += p->columns * inner;
    }
}

#endif
