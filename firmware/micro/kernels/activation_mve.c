/* activation with MVE: sixteen values at a time. */
#include "micro/kernels/activation.h"
#include "micro/kernels/variant.h"

#if NST_MVE

void nst_activation_run(const void *params, void *const *tensors, void *scratch) {
    (void)scratch;
    const nst_activation_params *p = params;
    const int8_t *input = tensors[0];
    int8_t *output = tensors[2];
    __asm__ volatile(
        "   vmov.i8 q2, #128\n" /* in + 128, modulo 256 */
        "   wlstp.8 lr, %[count], 2f\n"
        "1: vldrb.u8 q0, [%[input]], #16\n"
        "   veor q0, q0, q2\n"
        "   vldrb.u8 q1, [%[table], q0]\n"
        "   vstrb.8 q1, [%[output]], #16\n"
        "   letp lr, 1b\n"
        "2:\n"
        : [input] "+r"(input), [output] "+r"(output)
        : [count] "r"(p->elements), [table] "r"(tensors[1])
        : "q0", "q1", "q2", "lr", "memory");
}

#endif
