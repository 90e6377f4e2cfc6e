/* batch_matmul with MVE: one row of lhs against four of rhs at a time. */
#include "micro/kernels/batch_matmul.h"
#include "micro/kernels/variant.h"

#if NST_MVE

#include <stddef.h>

/* One batch; batch_matmul_rows_mve.S knows the order of the fields and changes the variables. */
typedef struct nst_batch_matmul_rows {
    const int8_t *lhs; /* variable */
    const int8_t *rhs;
    uint32_t inner;
    int8_t *output; /* variable */
    const int32_t *corrections;
    uint32_t adjust;
    uint32_t rows; /* variable */
    uint32_t full;
    uint32_t back;
    int32_t minus_rhs_zero_point;
    int32_t multiplier;
    int32_t second;
    int32_t output_zero_point;
} nst_batch_matmul_rows;

void nst_batch_matmul_rows_mve(nst_batch_matmul_rows *work);

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

/* Two multiplications scale a sum, for shifts by 1 to 11: NST_SCALING_TWICE in requantize.h. */
void nst_batch_matmul_run(const void *params, void *const *tensors, void *scratch) {
    const nst_batch_matmul_params *p = params;
    if (p->columns < 4 || p->output_shift > -1 || p->output_shift < -11) {
        nst_batch_matmul_portable(params, tensors, scratch);
        return;
    }
    const uint32_t inner = p->inner;
    /* What the zero points add to a column: inner * lz * rz - lz * (sum of the column). */
    int32_t *corrections = scratch;
    const int8_t *rhs = tensors[1];
    nst_batch_matmul_rows work = {
        .lhs = tensors[0],
        .inner = inner,
        .output = tensors[2],
        .corrections = corrections,
        .adjust = inner - ((inner + 15) & ~15u),
        .full = p->columns & ~3u,
        .back = (4 - p->columns % 4) % 4,
        .minus_rhs_zero_point = -p->rhs_zero_point,
        .multiplier = p->output_multiplier,
        .second = (1 << (31 + p->output_shift)) + 1,
        .output_zero_point = p->output_zero_point,
    };
    for (uint32_t b = 0; b < p->batches; ++b) {
        work.rhs = rhs;
        work.rows = p->rows;
        for (uint32_t c = 0; c < p->columns; ++c, rhs += inner) {
            corrections[c] = 0;
            if (p->lhs_zero_point != 0) {
                corrections[c] =
                    p->lhs_zero_point * ((int32_t)inner * p->rhs_zero_point - sum_of(rhs, inner));
            }
        }
        nst_batch_matmul_rows_mve(&work);
    }
}

#endif
