/* void nst_softmax_terms_mve(const int8_t *row, float *terms, uint32_t count, const
 * nst_softmax_constants *constants,
 *                            float lanes[4])
 *
 * exp(x - largest x) of every other four values of a row: the operations of nst_exp in
 * exponential.h, four at a time, in 24 instructions. `lanes` gets the sum in each lane. -k and its
 * constants are kept positive, so that one saturating subtraction puts the exponent in and makes
 * what would be below the normal numbers 0. */
#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2)

    .syntax unified
    .thumb
    .section .text.nst_softmax_terms_mve, "ax", %progbits
    .global nst_softmax_terms_mve
    .type nst_softmax_terms_mve, %function
    .p2align 2
nst_softmax_terms_mve:
    push {r4-r11, lr}
    vpush {d8-d15}
    mov r12, r2
    vldrw.32 q5, [r3]       /* c5 */
    vldrw.32 q6, [r3, #16]  /* scale */
    vldrw.32 q7, [r3, #32]  /* -log2(e) */
    vmov.i32 q4, #0
    add r3, r3, #48
    /* zero point, largest, ln 2 high and low, c6, c4, c3, c2, 1/2, 1 */
    ldm r3, {r2, r3, r4, r5, r6, r7, r8, r9, r10, r11}
    wlstp.32 lr, r12, 2f
1:  vldrb.s32 q0, [r0], #8
    vsub.i32 q0, q0, r2
    vcvt.f32.s32 q0, q0
    vmul.f32 q0, q0, q6
    vsub.f32 q0, q0, r3
    vmul.f32 q1, q0, q7
    vrintn.f32 q1, q1       /* -k */
    vfma.f32 q0, q1, r4
    vfma.f32 q0, q1, r5     /* r */
    vmov q2, q5
    vfma.f32 q2, q0, r6
    vfmas.f32 q2, q0, r7
    vfmas.f32 q2, q0, r8
    vfmas.f32 q2, q0, r9
    vfmas.f32 q2, q0, r10
    vmul.f32 q3, q0, q0
    vfma.f32 q0, q3, q2
    vadd.f32 q0, q0, r11
    vcvt.u32.f32 q1, q1
    vqshl.u32 q1, q1, #23
    vqsub.u32 q0, q0, q1
    vadd.f32 q4, q4, q0
    vstrw.32 q0, [r1], #32
    letp lr, 1b
2:  ldr r3, [sp, #100]
    vstrw.32 q4, [r3]
    vpop {d8-d15}
    pop {r4-r11, pc}
    .size nst_softmax_terms_mve, . - nst_softmax_terms_mve

#endif
