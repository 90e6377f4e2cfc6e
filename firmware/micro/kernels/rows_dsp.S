/* The inner loops of rows_dsp.c: two rows of weights a and b at once, see rows_dsp.h for A and s
 * = A + 256 * B. Written in assembly because they take every register there is; the sums come
 * out through memory. */
#include "micro/kernels/variant.h"

#if NST_DSP

    .syntax unified
    .thumb

/* Four taps of both rows at three columns: 17 instructions for 24 products. r1 column, r2
 * weights, r4-r6 A, r7-r9 s. */
.macro three_by_four_taps
    ldrd    r10, r11, [r2], #8
    ldmia   r1!, {r0, r12, lr}
    smlad   r7, r10, r0, r7
    smlad   r8, r10, r12, r8
    smlad   r9, r10, lr, r9
    uxtb16  r10, r10
    smlad   r4, r10, r0, r4
    smlad   r5, r10, r12, r5
    smlad   r6, r10, lr, r6
    ldmia   r1!, {r0, r12, lr}
    smlad   r7, r11, r0, r7
    smlad   r8, r11, r12, r8
    smlad   r9, r11, lr, r9
    uxtb16  r11, r11
    smlad   r4, r11, r0, r4
    smlad   r5, r11, r12, r5
    smlad   r6, r11, lr, r6
.endm

/* void nst_dsp_add_three(int32_t sums[6], const uint32_t *column, const int8_t *weights,
 * uint32_t fours) */
    .section .text.nst_dsp_add_three, "ax", %progbits
    .p2align 2
    .global nst_dsp_add_three
    .type   nst_dsp_add_three, %function
nst_dsp_add_three:
    push    {r0, r4-r11, lr}
    ldmia   r0, {r4-r6}
    mov     r7, r4
    mov     r8, r5
    mov     r9, r6
    subs    r3, #4
    blo     2f
1:  three_by_four_taps
    three_by_four_taps
    three_by_four_taps
    three_by_four_taps
    subs    r3, #4
    bhs     1b
2:  adds    r3, #4
    beq     4f
3:  three_by_four_taps
    subs    r3, #1
    bne     3b
4:  pop     {r0}
    stmia   r0, {r4-r9}
    pop     {r4-r11, pc}
    .size   nst_dsp_add_three, . - nst_dsp_add_three

.macro one_by_pair weights, taps
    smlad   r5, \weights, \taps, r5
    uxtb16  \weights, \weights
    smlad   r4, \weights, \taps, r4
.endm

/* Eight taps of both rows at one column: 14 instructions for 16 products. r1 column, r2 weights,
 * r4 A, r5 s. */
.macro one_by_eight_taps
    ldmia   r1!, {r6-r9}
    ldmia   r2!, {r10-r12, lr}
    one_by_pair r10, r6
    one_by_pair r11, r7
    one_by_pair r12, r8
    one_by_pair lr, r9
.endm

/* void nst_dsp_add_one(int32_t sums[2], const uint32_t *column, const int8_t *weights, uint32_t
 * fours) */
    .section .text.nst_dsp_add_one, "ax", %progbits
    .p2align 2
    .global nst_dsp_add_one
    .type   nst_dsp_add_one, %function
nst_dsp_add_one:
    push    {r4-r11, lr}
    ldr     r4, [r0]
    mov     r5, r4
    subs    r3, #8
    blo     2f
1:  one_by_eight_taps
    one_by_eight_taps
    one_by_eight_taps
    one_by_eight_taps
    subs    r3, #8
    bhs     1b
2:  adds    r3, #8
    beq     4f
3:  ldrd    r6, r7, [r1], #8
    ldrd    r10, r11, [r2], #8
    one_by_pair r10, r6
    one_by_pair r11, r7
    subs    r3, #1
    bne     3b
4:  strd    r4, r5, [r0]
    pop     {r4-r11, pc}
    .size   nst_dsp_add_one, . - nst_dsp_add_one

#endif
