/* dequantize with MVE: four values at a time. */
#include "micro/kernels/dequantize.h"
#include "micro/kernels/variant.h"

#if NST_MVE_FLOAT

void nst_dequantize_run(const void *params, void *const *tensors, void *scratch) {
    (void)scratch;
    const nst_dequantize_params *p = params;
    const int8_t *input = tensors[0];
    float *output = tensors[1];
    __asm__ volatile(
        "   wlstp.32 lr, %[count], 2f\n"
        "1: vldrb.s32 q0, [%[input]], #4\n"
        "   vsub.i32 q0, q0, %[zero_point]\n"
        "   vcvt.f32.s32 q0, q0\n"
        "   vmul.f32 q0, q0, %[scale]\n"
        "   vstrw.32 q0, [%[output]], #16\n"
        "   letp lr, 1b\n"
        "2:\n"
        : [input] "+l"(input), [output] "+l"(output)
        : [count] "r"(p->elements), [zero_point] "r"(p->zero_point), [scale] "r"(p->scale)
        : "q0", "lr", "memory");
}

#endif
