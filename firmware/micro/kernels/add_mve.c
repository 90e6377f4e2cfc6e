/* add with MVE: tables of both rescaled operands, gathered four values at a time. */
#include "micro/kernels/add.h"
#include "micro/kernels/variant.h"

#if NST_MVE

#include <arm_mve.h>

#include "micro/kernels/add_operand.h"
#include "micro/kernels/broadcast.h"

/* Writes A(q) to table[q] for every int8 q; `table` points at the middle. */
static void fill(int32_t *table, int32_t zero_point, int32_t multiplier, int32_t shift) {
    const nst_bounded_scale scale = nst_bounded_scale_of(multiplier, shift);
    const int32x4_t sign = vdupq_n_s32(scale.sign);
    const int32x4_t minus_right = vdupq_n_s32(-scale.right);
    for (int32_t q = INT8_MIN; q <= INT8_MAX; q += 4) {
        int32x4_t value = vreinterpretq_s32_u32(vidupq_n_u32((uint32_t)(q - zero_point), 1));
        value = vmulq_n_s32(value, scale.factor * (1 << 20));
        value = vqrdmulhq_n_s32(value, scale.multiplier);
        value = vaddq_s32(value, vandq_s32(vshrq_n_s32(value, 31), sign));
        vst1q_s32(&table[q], vrshlq_s32(value, minus_right));
    }
}

/* Four elements in 13 instructions. The output's shift is to the right and its multiplier
 * positive: the sign of the sum is then that of the product, and -1 or 0 is accumulated to round
 * ties away from zero. */
static void add_run_of(const nst_add_params *p, const int8_t *self, const int8_t *other,
                       int8_t *output, uint32_t count, const int32_t *self_table,
                       const int32_t *other_table) {
    const int32x4_t bounds[2] = {vdupq_n_s32(p->activation_min), vdupq_n_s32(p->activation_max)};
    __asm__ volatile(
        "   vldrw.32 q6, [%[bounds]]\n"
        "   vldrw.32 q7, [%[bounds], #16]\n"
        "   wlstp.32 lr, %[count], 2f\n"
        "1: vldrb.s32 q0, [%[self]], #4\n"
        "   vldrb.s32 q1, [%[other]], #4\n"
        "   vldrw.u32 q2, [%[self_table], q0, uxtw #2]\n"
        "   vldrw.u32 q3, [%[other_table], q1, uxtw #2]\n"
        "   vadd.i32 q2, q2, q3\n"
        "   vshr.s32 q3, q2, #31\n"
        "   vqrdmlah.s32 q3, q2, %[multiplier]\n"
        "   vrshl.s32 q3, %[shift]\n"
        "   vadd.i32 q3, q3, %[zero_point]\n"
        "   vmax.s32 q3, q3, q6\n"
        "   vmin.s32 q3, q3, q7\n"
        "   vstrb.32 q3, [%[output]], #4\n"
        "   letp lr, 1b\n"
        "2:\n"
        : [self] "+l"(self), [other] "+l"(other), [output] "+l"(output)
        : [count] "r"(count), [self_table] "r"(self_table), [other_table] "r"(other_table),
          [multiplier] "r"(p->output_multiplier), [shift] "r"(p->output_shift),
          [zero_point] "r"(p->output_zero_point), [bounds] "r"(bounds)
        : "q0", "q1", "q2", "q3", "q6", "q7", "lr", "memory");
}

void nst_add_run(const void *params, void *const *tensors, void *scratch) {
    const nst_add_params *p = params;
    if (p->output_shift >= 0 || p->output_multiplier <= 0) {
        nst_add_portable(params, tensors, scratch);
        return;
    }
    int32_t *const self_table = (int32_t *)scratch + 128;
    int32_t *const other_table = self_table + 256;
    fill(self_table, p->self_zero_point, p->self_multiplier, p->self_shift);
    fill(other_table, p->other_zero_point, p->other_multiplier, p->other_shift);
    nst_broadcast walk = nst_broadcast_begin(p->elements, p->self_elements, p->other_elements);
    do {
        add_run_of(p, (const int8_t *)tensors[0] + walk.self,
                   (const int8_t *)tensors[1] + walk.other, (int8_t *)tensors[2] + walk.output,
                   walk.count, self_table, other_table);
    } while (nst_broadcast_next(&walk));
}

#endif
