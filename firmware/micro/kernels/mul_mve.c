/* mul with MVE: eight products at a time. */
#include "micro/kernels/mul.h"
#include "micro/kernels/variant.h"

#if NST_MVE

#include "micro/kernels/bounded.h"
#include "micro/kernels/broadcast.h"
#include "micro/kernels/requantize.h"

/* Eight elements in 15 instructions, for a shift to the right by 1 to 15. A product is below 2^16
 * in size, so the second multiplication may stand for the shift (NST_SCALING_TWICE in
 * requantize.h), and a result fits in 16 bits. `count` is even: a product takes the lanes of two
 * elements. */
static __attribute__((noinline)) void multiply_pairs(const nst_mul_params *p, const int8_t *self,
                                                     const int8_t *other, int8_t *output,
                                                     uint32_t count) {
    const int32_t second = (1 << (31 + p->output_shift)) + 1;
    __asm__ volatile(
        "   wlstp.16 lr, %[count], 2f\n"
        "1: vldrb.s16 q0, [%[self]], #8\n"
        "   vldrb.s16 q1, [%[other]], #8\n"
        "   vsub.i16 q0, q0, %[self_zero]\n"
        "   vsub.i16 q1, q1, %[other_zero]\n"
        "   vmullb.s16 q2, q0, q1\n"
        "   vmullt.s16 q3, q0, q1\n"
        "   vqrdmulh.s32 q2, q2, %[multiplier]\n"
        "   vqrdmulh.s32 q3, q3, %[multiplier]\n"
        "   vqrdmulh.s32 q2, q2, %[second]\n"
        "   vqrdmulh.s32 q3, q3, %[second]\n"
        "   vmovnt.i32 q2, q3\n"
        "   vqadd.s16 q2, q2, %[zero_point]\n"
        "   vqmovnb.s16 q2, q2\n"
        "   vstrb.16 q2, [%[output]], #8\n"
        "   letp lr, 1b\n"
        "2:\n"
        : [self] "+l"(self), [other] "+l"(other), [output] "+l"(output)
        : [count] "r"(count), [self_zero] "r"(p->self_zero_point),
          [other_zero] "r"(p->other_zero_point), [multiplier] "r"(p->output_multiplier),
          [second] "r"(second), [zero_point] "r"(p->output_zero_point)
        : "q0", "q1", "q2", "q3", "lr", "memory");
}

static void mul_run_of(const nst_mul_params *p, const int8_t *self, const int8_t *other,
                       int8_t *output, uint32_t count) {
    multiply_pairs(p, self, other, output, count & ~1u);
    if (count & 1) {
        const int32_t product =
            (self[count - 1] - p->self_zero_point) * (other[count - 1] - p->other_zero_point);
        const nst_bounded_scale scale = nst_bounded_scale_of(p->output_multiplier, p->output_shift);
        output[count - 1] = nst_to_int8(nst_requantize_bounded(product, scale),
                                        p->output_zero_point, INT8_MIN, INT8_MAX);
    }
}

void nst_mul_run(const void *params, void *const *tensors, void *scratch) {
    const nst_mul_params *p = params;
    if (p->output_shift > -1 || p->output_shift < -15) {
        nst_mul_portable(params, tensors, scratch);
        return;
    }
    nst_broadcast walk = nst_broadcast_begin(p->elements, p->self_elements, p->other_elements);
    do {
        mul_run_of(p, (const int8_t *)tensors[0] + walk.self,
                   (const int8_t *)tensors[1] + walk.other, (int8_t *)tensors[2] + walk.output,
                   walk.count);
    } while (nst_broadcast_next(&walk));
}

#endif
