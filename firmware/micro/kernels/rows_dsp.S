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

/* r3 times four taps, at least one. */
.macro three_by_all_taps
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
4:
.endm

/* void nst_dsp_add_three(int32_t sums[6], const uint32_t *column, const int8_t *weights,
 *                        uint32_t fours) */
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
    three_by_all_taps
    pop     {r0}
    stmia   r0, {r4-r9}
    pop     {r4-r11, pc}
    .size   nst_dsp_add_three, . - nst_dsp_add_three

/* Offsets in pairs_job of rows_dsp.c */
#define COLUMNS 0
#define WEIGHTS 4
#define CHANNELS 8
#define OUTPUT 12
#define STEP 16
#define ZERO_POINT 20
#define FOURS 24
#define PAIRS 28
#define LEFT 32
#define DOUBLED_B 36

#define SEGMENT_FOURS 124

/* How many times four taps come next, in r3, of as many as are left of a long row in r3. */
.macro begin_segment job, spare
    subs    \spare, r3, #SEGMENT_FOURS
    ite     hi
    movhi   r3, #SEGMENT_FOURS
    movls   \spare, #0
    str     \spare, [\job, #LEFT]
.endm

/* One channel's outputs at r2, r3 bytes apart, from three sums; adds what shifts each sum to
 * twice its value. r1 channels, r12 zero point. See scale_dsp.h. */
.macro three_outputs x, y, z, double:vararg
    ldmia   r1!, {r10, r11, lr}
    lsl     r10, #1
    lsl     lr, #1
    add     \x, r10, \x, \double
    add     \y, r10, \y, \double
    add     \z, r10, \z, \double
    smmulr  \x, \x, r11
    smmulr  \y, \y, r11
    smmulr  \z, \z, r11
    smmlar  \x, \x, lr, r12
    smmlar  \y, \y, lr, r12
    smmlar  \z, \z, lr, r12
    ssat    \x, #8, \x
    ssat    \y, #8, \y
    ssat    \z, #8, \z
    strb    \x, [r2]
    strb    \y, [r2, r3]
    strb    \z, [r2, r3, lsl #1]
    add     r2, #1
.endm

/* void NAME(pairs_job *job): for rows of one segment, or for \long ones. */
.macro three_by_pairs name, long
    .section .text.\name, "ax", %progbits
    .p2align 2
    .global \name
    .type   \name, %function
\name:
    push    {r0, r4-r11, lr}
0:  ldrd    r1, r2, [r0, #COLUMNS]
    ldr     r3, [r0, #FOURS]
    ldmia   r1!, {r4-r6}
    .if     \long
    mov     r10, #0
    mov     r11, #0
    strd    r10, r11, [r0, #DOUBLED_B]
    str     r10, [r0, #(DOUBLED_B + 8)]
5:  begin_segment r0, r12
    .endif
    mov     r7, r4
    mov     r8, r5
    mov     r9, r6
    three_by_all_taps
    ldr     r0, [sp]
    sub     r7, r4
    sub     r8, r5
    sub     r9, r6
    .if     \long
    ldrd    r10, r11, [r0, #DOUBLED_B]
    ldr     r12, [r0, #(DOUBLED_B + 8)]
    ldr     r3, [r0, #LEFT]
    add     r7, r10, r7, asr #7
    add     r8, r11, r8, asr #7
    add     r9, r12, r9, asr #7
    strd    r7, r8, [r0, #DOUBLED_B]
    str     r9, [r0, #(DOUBLED_B + 8)]
    cmp     r3, #0
    bne     5b
    .endif
    str     r2, [r0, #WEIGHTS]
    ldrd    r1, r2, [r0, #CHANNELS]
    ldrd    r3, r12, [r0, #STEP]
    three_outputs r4, r5, r6, lsl #1
    .if     \long
    three_outputs r7, r8, r9, lsl #0
    .else
    three_outputs r7, r8, r9, asr #7
    .endif
    strd    r1, r2, [r0, #CHANNELS]
    ldr     r3, [r0, #PAIRS]
    subs    r3, #1
    str     r3, [r0, #PAIRS]
    bne     0b
    pop     {r0, r4-r11, pc}
    .size   \name, . - \name
.endm

    three_by_pairs nst_dsp_three_by_pairs, 0
    three_by_pairs nst_dsp_three_by_long_pairs, 1

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

/* r3 times four taps, at least one. */
.macro one_by_all_taps
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
4:
.endm

/* void nst_dsp_add_one(int32_t sums[2], const uint32_t *column, const int8_t *weights,
 *                      uint32_t fours) */
    .section .text.nst_dsp_add_one, "ax", %progbits
    .p2align 2
    .global nst_dsp_add_one
    .type   nst_dsp_add_one, %function
nst_dsp_add_one:
    push    {r4-r11, lr}
    ldr     r4, [r0]
    mov     r5, r4
    one_by_all_taps
    strd    r4, r5, [r0]
    pop     {r4-r11, pc}
    .size   nst_dsp_add_one, . - nst_dsp_add_one

/* One channel's output at r2 from a sum. r1 channels, r12 zero point. */
.macro one_output x, double:vararg
    ldmia   r1!, {r6, r7, r8}
    lsl     r6, #1
    lsl     r8, #1
    add     \x, r6, \x, \double
    smmulr  \x, \x, r7
    smmlar  \x, \x, r8, r12
    ssat    \x, #8, \x
    strb    \x, [r2], #1
.endm

/* void NAME(pairs_job *job): for rows of one segment, or for \long ones. */
.macro one_by_pairs name, long
    .section .text.\name, "ax", %progbits
    .p2align 2
    .global \name
    .type   \name, %function
\name:
    push    {r4-r11, lr}
0:  ldrd    r1, r2, [r0, #COLUMNS]
    ldr     r3, [r0, #FOURS]
    ldr     r4, [r1], #4
    .if     \long
    mov     r12, #0
    str     r12, [r0, #DOUBLED_B]
5:  begin_segment r0, r12
    .endif
    mov     r5, r4
    one_by_all_taps
    sub     r5, r4
    .if     \long
    ldr     r12, [r0, #DOUBLED_B]
    ldr     r3, [r0, #LEFT]
    add     r5, r12, r5, asr #7
    str     r5, [r0, #DOUBLED_B]
    cmp     r3, #0
    bne     5b
    .endif
    str     r2, [r0, #WEIGHTS]
    ldrd    r1, r2, [r0, #CHANNELS]
    ldr     r12, [r0, #ZERO_POINT]
    one_output r4, lsl #1
    .if     \long
    one_output r5, lsl #0
    .else
    one_output r5, asr #7
    .endif
    strd    r1, r2, [r0, #CHANNELS]
    ldr     r3, [r0, #PAIRS]
    subs    r3, #1
    str     r3, [r0, #PAIRS]
    bne     0b
    pop     {r4-r11, pc}
    .size   \name, . - \name
.endm

    one_by_pairs nst_dsp_one_by_pairs, 0
    one_by_pairs nst_dsp_one_by_long_pairs, 1

.macro append_word at, step
    ldr     r4, [r1], #4
    sxtb16  r5, r4
    sxtb16  r4, r4, ror #8
    smlad   r3, r5, r12, r3
    smlad   r3, r4, r12, r3
    str     r5, [r0, #(2 * \at * \step)]
    str     r4, [r0, #(2 * \at * \step + \step)]
.endm

/* int32_t NAME(uint32_t *next, const int8_t *taps, uint32_t words, int32_t sum, uint32_t rows,
 *              uint32_t gap_bytes): appends `rows` times `words` words of taps, gap_bytes apart, to
 * a column whose pairs are \step bytes apart. Returns the sum with these taps. */
.macro append_rows name, step
    .section .text.\name, "ax", %progbits
    .p2align 2
    .global \name
    .type   \name, %function
\name:
    push    {r4-r8}
    ldrd    r6, r7, [sp, #20]
    mov     r12, #0x00010001
    mov     r8, r2
0:  subs    r2, r8, #4
    blo     2f
1:  append_word 0, \step
    append_word 1, \step
    append_word 2, \step
    append_word 3, \step
    add     r0, #(8 * \step)
    subs    r2, #4
    bhs     1b
2:  adds    r2, #4
    beq     4f
3:  append_word 0, \step
    add     r0, #(2 * \step)
    subs    r2, #1
    bne     3b
4:  add     r1, r7
    subs    r6, #1
    bne     0b
    mov     r0, r3
    pop     {r4-r8}
    bx      lr
    .size   \name, . - \name
.endm

    append_rows nst_dsp_append_rows_to_one, 4
    append_rows nst_dsp_append_rows_to_three, 12

#endif
