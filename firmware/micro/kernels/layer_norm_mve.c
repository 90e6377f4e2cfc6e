/* layer_norm with MVE: four values at a time, the same float operations in the same order. */
#include "micro/kernels/layer_norm.h"
#include "micro/kernels/variant.h"

#if NST_MVE_FLOAT

#include <arm_mve.h>

#include "micro/kernels/layer_norm_moments.h"

/* q4, q5: means of lanes 0-3 and 4-7; q6, q7: their squares. */
void nst_layer_norm_chunk(const nst_layer_norm_params *p, const int8_t *values, uint32_t vectors,
                          nst_moments *out) {
    const float *weights = nst_layer_norm_weights;
    uint32_t weight;
    out->count = vectors;
    __asm__ volatile(
        "   vmov.i32 q4, #0\n"
        "   vmov.i32 q5, #0\n"
        "   vmov.i32 q6, #0\n"
        "   vmov.i32 q7, #0\n"
        "   wls lr, %[vectors], 2f\n"
        "1: ldr %[weight], [%[weights]], #4\n"
        "   vldrb.s32 q0, [%[values]], #4\n"
        "   vldrb.s32 q1, [%[values]], #4\n"
        "   vsub.i32 q0, q0, %[zero_point]\n"
        "   vsub.i32 q1, q1, %[zero_point]\n"
        "   vcvt.f32.s32 q0, q0\n"
        "   vcvt.f32.s32 q1, q1\n"
        "   vmul.f32 q0, q0, %[scale]\n"
        "   vmul.f32 q1, q1, %[scale]\n"
        "   vsub.f32 q2, q0, q4\n"
        "   vsub.f32 q3, q1, q5\n"
        "   vfma.f32 q4, q2, %[weight]\n"
        "   vfma.f32 q5, q3, %[weight]\n"
        "   vsub.f32 q0, q0, q4\n"
        "   vsub.f32 q1, q1, q5\n"
        "   vfma.f32 q6, q2, q0\n"
        "   vfma.f32 q7, q3, q1\n"
        "   le lr, 1b\n"
        "2: vstrw.32 q4, [%[mean]]\n"
        "   vstrw.32 q5, [%[mean], #16]\n"
        "   vstrw.32 q6, [%[squares]]\n"
        "   vstrw.32 q7, [%[squares], #16]\n"
        : [values] "+l"(values), [weights] "+r"(weights), [weight] "=&r"(weight)
        : [vectors] "r"(vectors), [zero_point] "r"(p->input_zero_point),
          [scale] "r"(p->input_scale), [mean] "r"(out->mean), [squares] "r"(out->squares)
        : "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "lr", "memory");
}

static void normalize_row(const nst_layer_norm_params *p, const int8_t *input, const float *gamma,
                          const float *beta, nst_row_moments moments, int8_t *output) {
    const float32x4_t floats[3] = {vdupq_n_f32(p->input_scale), vdupq_n_f32(moments.mean),
                                   vdupq_n_f32(moments.reciprocal_deviation)};
    const int32x4_t bounds[2] = {vdupq_n_s32(p->quant_min), vdupq_n_s32(p->quant_max)};
    __asm__ volatile(
        "   vldrw.32 q3, [%[floats]]\n"
        "   vldrw.32 q4, [%[floats], #16]\n"
        "   vldrw.32 q5, [%[floats], #32]\n"
        "   vldrw.32 q6, [%[bounds]]\n"
        "   vldrw.32 q7, [%[bounds], #16]\n"
        "   wlstp.32 lr, %[count], 2f\n"
        "1: vldrb.s32 q0, [%[input]], #4\n"
        "   vldrw.32 q1, [%[gamma]], #16\n"
        "   vldrw.32 q2, [%[beta]], #16\n"
        "   vsub.i32 q0, q0, %[zero_point]\n"
        "   vcvt.f32.s32 q0, q0\n"
        "   vmul.f32 q0, q0, q3\n"
        "   vsub.f32 q0, q0, q4\n"
        "   vmul.f32 q0, q0, q5\n"
        "   vfma.f32 q2, q0, q1\n"
        "   vmul.f32 q0, q2, %[inverse]\n"
        "   vcvtn.s32.f32 q0, q0\n"
        "   vqadd.s32 q0, q0, %[output_zero]\n"
        "   vmax.s32 q0, q0, q6\n"
        "   vmin.s32 q0, q0, q7\n"
        "   vstrb.32 q0, [%[output]], #4\n"
        "   letp lr, 1b\n"
        "2:\n"
        : [input] "+l"(input), [gamma] "+r"(gamma), [beta] "+r"(beta), [output] "+l"(output)
        : [count] "r"(p->columns), [zero_point] "r"(p->input_zero_point),
          [inverse] "r"(p->output_inverse_scale), [output_zero] "r"(p->output_zero_point),
          [floats] "r"(floats), [bounds] "r"(bounds)
        : "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "lr", "memory");
}

void nst_layer_norm_run(const void *params, void *const *tensors, void *scratch) {
    const nst_layer_norm_params *p = params;
    const float *gamma = tensors[1];
    const float *beta = tensors[2];
    if (gamma == 0 || beta == 0) {
        nst_layer_norm_portable(params, tensors, scratch);
        return;
    }
    const int8_t *input = tensors[0];
    int8_t *output = tensors[3];
    for (uint32_t row = 0; row < p->rows; ++row, input += p->columns, output += p->columns) {
        normalize_row(p, input, gamma, beta, nst_layer_norm_row(p, input), output);
    }
}

#endif
