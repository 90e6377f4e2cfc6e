/* void nst_batch_matmul_rows_mve(nst_batch_matmul_rows *work)
 *
 * All rows of one batch: each against four rows of rhs at a time. Accumulators have to be even
 * registers and all the others hold pointers, which is why this is no C. Between the blocks of a
 * row the fields of `work` are variables; its layout is in batch_matmul_mve.c. */
#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1)

#define LHS 0
#define RHS 4
#define INNER 8
#define OUTPUT 12
#define CORRECTIONS 16
#define ADJUST 20 /* inner, less inner rounded up to whole vectors */
#define ROWS 24
#define FULL 28   /* columns in whole blocks of four */
#define BACK 32   /* how far the last block starts before them; 0: there is none */
#define MINUS_RHS_ZERO_POINT 36
#define MULTIPLIER 40

    .syntax unified
    .thumb
    .section .text.nst_batch_matmul_rows_mve, "ax", %progbits
    .global nst_batch_matmul_rows_mve
    .type nst_batch_matmul_rows_mve, %function
    .p2align 2
nst_batch_matmul_rows_mve:
    push {r0, r4-r11, lr}
    vpush {d8-d15}
    sub sp, sp, #8
    add r1, r0, #MULTIPLIER
    ldm r1, {r2, r3, r4}
    vdup.32 q4, r2              /* multiplier */
    vdup.32 q5, r3              /* second multiplier: the shift */
    vdup.32 q7, r4              /* zero point of the output */
    ldr r8, [r0, #INNER]
    ldr r10, [r0, #OUTPUT]
    ldr r2, [r0, #ADJUST]
    str r2, [sp, #4]

.Lrow:                          /* r0: work */
    ldr r1, [r0, #LHS]
    str r1, [sp]
    ldr r3, [r0, #MINUS_RHS_ZERO_POINT]
    movs r2, #0
    wlstp.8 lr, r8, 2f
1:  vldrb.8 q0, [r1], #16
    vaddva.s8 r2, q0
    letp lr, 1b
2:  muls r3, r2, r3
    vdup.32 q6, r3              /* what the zero point of rhs takes from each sum */
    ldr r3, [r0, #RHS]
    ldr r11, [r0, #CORRECTIONS]
    ldr r12, [r0, #FULL]
    ldr r1, [sp]
    add r12, r12, r10

.Lblock:
    add r5, r3, r8
    add r7, r5, r8
    add r9, r7, r8
    movs r0, #0
    movs r2, #0
    movs r4, #0
    movs r6, #0
    wlstp.8 lr, r8, 2f
1:  vldrb.8 q0, [r1], #16
    vldrb.8 q1, [r3], #16
    vmladava.s8 r0, q0, q1
    vldrb.8 q2, [r5], #16
    vmladava.s8 r2, q0, q2
    vldrb.8 q1, [r7], #16
    vmladava.s8 r4, q0, q1
    vldrb.8 q2, [r9], #16
    vmladava.s8 r6, q0, q2
    letp lr, 1b
2:  vldrw.32 q2, [r11], #16
    vmov q1[2], q1[0], r0, r4
    vmov q1[3], q1[1], r2, r6
    vadd.i32 q2, q2, q6
    vadd.i32 q1, q1, q2
    vqrdmulh.s32 q1, q1, q4
    vqrdmulh.s32 q1, q1, q5
    vqadd.s32 q1, q1, q7
    vqmovnb.s32 q1, q1
    vqmovnb.s16 q1, q1
    mov r0, r10
    vstrb.32 q1, [r0], #4
    mov r10, r0
    ldrd r1, r3, [sp]
    add r3, r3, r9              /* the next four rows of rhs */
    cmp r10, r12
    bne .Lblock

    ldr r0, [sp, #72]           /* work */
    ldr r2, [r0, #BACK]
    cbz r2, .Lrow_done
    ldr r4, [r0, #FULL]         /* once more, over columns that end with the row */
    ldr r5, [r0, #OUTPUT]
    add r5, r5, r4
    cmp r10, r5
    bne .Lrow_done
    subs r10, r10, r2
    mls r3, r2, r8, r3
    sub r11, r11, r2, lsl #2
    add r12, r10, #4
    b .Lblock

.Lrow_done:
    str r10, [r0, #OUTPUT]
    add r1, r1, r8
    str r1, [r0, #LHS]
    ldr r2, [r0, #ROWS]
    subs r2, r2, #1
    str r2, [r0, #ROWS]
    bne .Lrow

    add sp, sp, #8
    vpop {d8-d15}
    pop {r0, r4-r11, pc}
    .size nst_batch_matmul_rows_mve, . - nst_batch_matmul_rows_mve

#endif
