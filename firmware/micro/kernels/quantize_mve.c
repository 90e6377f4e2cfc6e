/* quantize with MVE: four values at a time. */
#include "micro/kernels/quantize.h"
#include "micro/kernels/variant.h"

#if NST_MVE_FLOAT

#include <arm_mve.h>

void nst_quantize_run(const void *params, void *const *tensors, void *scratch) {
    (void)scratch;
    const nst_quantize_params *p = params;
    const float *input = tensors[0];
    int8_t *output = tensors[1];
    const int32x4_t bounds[2] = {vdupq_n_s32(p->quant_min), vdupq_n_s32(p->quant_max)};
    __asm__ volatile(
        "   vldrw.32 q6, [%[bounds]]\n"
        "   vldrw.32 q7, [%[bounds], #16]\n"
        "   wlstp.32 lr, %[count], 2f\n"
        "1: vldrw.32 q0, [%[input]], #16\n"
        "   vmul.f32 q0, q0, %[inverse_scale]\n"
        "   vcvtn.s32.f32 q0, q0\n" /* ties to even; saturates; NaN becomes 0 */
        "   vqadd.s32 q0, q0, %[zero_point]\n"
        "   vmax.s32 q0, q0, q6\n"
        "   vmin.s32 q0, q0, q7\n"
        "   vstrb.32 q0, [%[output]], #4\n"
        "   letp lr, 1b\n"
        "2:\n"
        : [input] "+l"(input), [output] "+l"(output)
        : [count] "r"(p->elements), [inverse_scale] "r"(p->inverse_scale),
          [zero_point] "r"(p->zero_point), [bounds] "r"(bounds)
        : "q0", "q6", "q7", "lr", "memory");
}

#endif
