/* Lines of a depthwise convolution with a kernel of 3 x 3, four outputs at a time: the inner
 * loops of depthwise_dsp.c, which has their prototype (line_function) and the layout of
 * line_channel. Written in assembly because they take every register there is. */
#include "micro/kernels/variant.h"

#if NST_DSP

    .syntax unified
    .thumb

#define LINE r0
#define LINE_BYTES r1
#define CHANNEL r2
#define OUTPUT r3
#define COUNT r12
#define STEP lr

/* Offsets in line_channel */
#define DOUBLED_BIAS 0
#define THIRD 8
#define TAPS 16

/* r4-r7 sums, r8 taps (0, 1), r9 taps (1, 2), r10 and r11 pairs of the line. The first line sets
 * the sums. */
.macro pair first, sum, values, taps
    .if \first
    smuad   \sum, \values, \taps
    .else
    smlad   \sum, \values, \taps, \sum
    .endif
.endm

.macro top_by_bottom first, sum, values, taps
    .if \first
    smultb  \sum, \values, \taps
    .else
    smlatb  \sum, \values, \taps, \sum
    .endif
.endm

/* Outputs 0 to 3 begin at values 0, 1, 2, 3. */
.macro line_stride_1 index
    ldrd    r8, r9, [CHANNEL, #(TAPS + 8 * \index)]
    ldrd    r10, r11, [LINE]
    pair    (\index == 0), r4, r10, r8
    top_by_bottom (\index == 0), r5, r10, r8
    ldr     r10, [LINE, #8]
    pair    (\index == 0), r6, r11, r8
    top_by_bottom (\index == 0), r7, r11, r8
    smlabt  r4, r11, r9, r4
    smlad   r5, r11, r9, r5
    smlabt  r6, r10, r9, r6
    smlad   r7, r10, r9, r7
.endm

/* Outputs 0 to 3 begin at values 0, 2, 4, 6. */
.macro line_stride_2 index
    ldrd    r8, r9, [CHANNEL, #(TAPS + 8 * \index)]
    ldrd    r10, r11, [LINE]
    pair    (\index == 0), r4, r10, r8
    pair    (\index == 0), r5, r11, r8
    smlabt  r4, r11, r9, r4
    ldrd    r10, r11, [LINE, #8]
    pair    (\index == 0), r6, r10, r8
    pair    (\index == 0), r7, r11, r8
    smlabt  r5, r10, r9, r5
    smlabt  r6, r11, r9, r6
    ldr     r10, [LINE, #16]
    smlabt  r7, r10, r9, r7
.endm

/* One output; the line need not be aligned. */
.macro line_single index
    ldrd    r8, r9, [CHANNEL, #(TAPS + 8 * \index)]
    ldr     r10, [LINE]
    ldr     r11, [LINE, #4]
    pair    (\index == 0), r4, r10, r8
    smlabt  r4, r11, r9, r4
.endm

/* See scale_dsp.h for both. \sums: one or four of r4-r7. */
.macro scale_twice sums:vararg
    ldrd    r8, r9, [CHANNEL, #DOUBLED_BIAS]
    ldrd    r10, r11, [CHANNEL, #THIRD]
    .irp    sum, \sums
    add     \sum, r8, \sum, lsl #1
    .endr
    .irp    sum, \sums
    smmulr  \sum, \sum, r9
    .endr
    .irp    sum, \sums
    smmlar  \sum, \sum, r10, r11
    .endr
    .irp    sum, \sums
    ssat    \sum, #8, \sum
    .endr
.endm

.macro scale_shift sums:vararg
    ldrd    r8, r9, [CHANNEL, #DOUBLED_BIAS]
    ldrd    r10, r11, [CHANNEL, #THIRD]
    .irp    sum, \sums
    add     \sum, r8, \sum, lsl #1
    .endr
    .irp    sum, \sums
    add     r8, r10, \sum, asr #31      /* a negative tie goes away from zero */
    smmlar  \sum, \sum, r9, r8
    .endr
    .irp    sum, \sums
    asr     \sum, \sum, r11
    .endr
    .irp    sum, \sums
    ssat    \sum, #8, \sum
    .endr
.endm

.macro line_function name, stride, scale
    .section .text.\name, "ax", %progbits
    .p2align 2
    .global \name
    .type   \name, %function
\name:
    push    {r4-r11, lr}
    ldrd    STEP, COUNT, [sp, #36]
    subs    COUNT, #4
    blo     2f
1:  line_stride_\stride 0
    add     LINE, LINE_BYTES
    line_stride_\stride 1
    add     LINE, LINE_BYTES
    line_stride_\stride 2
    sub     LINE, LINE, LINE_BYTES, lsl #1
    add     LINE, #(8 * \stride)
    \scale  r4, r5, r6, r7
    strb    r4, [OUTPUT]
    strb    r5, [OUTPUT, STEP]
    strb    r6, [OUTPUT, STEP, lsl #1]
    add     OUTPUT, OUTPUT, STEP, lsl #2
    sub     r8, OUTPUT, STEP
    strb    r7, [r8]
    subs    COUNT, #4
    bhs     1b
2:  adds    COUNT, #4
    beq     4f
3:  line_single 0
    add     LINE, LINE_BYTES
    line_single 1
    add     LINE, LINE_BYTES
    line_single 2
    sub     LINE, LINE, LINE_BYTES, lsl #1
    add     LINE, #(2 * \stride)
    \scale  r4
    strb    r4, [OUTPUT]
    add     OUTPUT, STEP
    subs    COUNT, #1
    bne     3b
4:  pop     {r4-r11, pc}
    .size   \name, . - \name
.endm

    line_function nst_dsp_line_stride_1_twice, 1, scale_twice
    line_function nst_dsp_line_stride_1_shift, 1, scale_shift
    line_function nst_dsp_line_stride_2_twice, 2, scale_twice
    line_function nst_dsp_line_stride_2_shift, 2, scale_shift

#endif
