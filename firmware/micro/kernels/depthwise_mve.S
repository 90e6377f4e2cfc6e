@ nst_depthwise_mve_3x3 and nst_depthwise_mve_any: see depthwise_mve.h.
@
@ Sixteen channels at a time. VMULLB and VMULLT give the 16-bit products of the even and of the odd
@ channels; two taps are added in 16 bits (not both weights are -128, so that two products fit),
@ then widened into four vectors of 32-bit sums: q4 for channels 0 4 8 12, q5 for 2 6 10 14, q6 for
@ 1 5 9 13, q7 for 3 7 11 15. Narrowing twice puts them back into order. The table of channels is
@ laid out in this order too.
#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1)

    .syntax unified
    .thumb

@ Fields of nst_depthwise_job.
#define WEIGHTS 0
#define CHANNELS 4
#define BLOCKS 8
#define TAIL 12
#define ZERO_POINT 16
#define LOW 20
#define HIGH 24
#define SCALING 28

@ Fields of nst_depthwise_strip.
#define STEPS 36
#define POSITIONS 52
#define STRIP_BYTES 96

@ What lies on the stack.
#define F_LOW 0
#define F_HIGH 16
#define F_WEIGHTS 32   /* weights, then channels less 16 bytes */
#define F_BLOCKS 40
#define F_TAIL 44
#define F_POSITIONS 48
#define F_STEPS 52     /* three, then whether any is not 0 */
#define F_SCALING 68   /* 0: by shifts; 1: twice; -1: twice, and no clamping */
#define F_STRIP 72
#define F_COUNT 76
#define F_BYTES 80

@ Sixteen channels of a tap into q0; in the tail (VPR is set) only those that exist.
.macro load_tap pointer, tail
    .if \tail
    vpst
    vldrbt.u8 q0, [\pointer]
    .else
    vldrb.u8 q0, [\pointer]
    .endif
.endm

.macro load_tap_and_move pointer, tail
    .if \tail
    vpst
    vldrbt.u8 q0, [\pointer], #16
    .else
    vldrb.u8 q0, [\pointer], #16
    .endif
.endm

.macro load_biases
    vldrw.u32 q4, [r10, #16]!
    vldrw.u32 q5, [r10, #16]!
    vldrw.u32 q6, [r10, #16]!
    vldrw.u32 q7, [r10, #16]!
.endm

@ Products of one tap into q2 and q3.
.macro multiply pointer, tail
    load_tap_and_move \pointer, \tail
    vldrw.u32 q1, [r9], #16
    vmullb.s8 q2, q0, q1
    vmullt.s8 q3, q0, q1
.endm

@ Add the products of another tap. No register is free: the tap is loaded twice.
.macro multiply_add pointer, tail
    load_tap \pointer, \tail
    vldrw.u32 q1, [r9], #16
    vmullb.s8 q0, q0, q1
    vadd.i16 q2, q2, q0
    load_tap_and_move \pointer, \tail
    vmullt.s8 q0, q0, q1
    vadd.i16 q3, q3, q0
.endm

@ Add q2 and q3 to the sums.
.macro widen
    vmovlb.s16 q0, q2
    vmovlt.s16 q1, q2
    vadd.i32 q4, q4, q0
    vadd.i32 q5, q5, q1
    vmovlb.s16 q2, q3
    vmovlt.s16 q3, q3
    vadd.i32 q6, q6, q2
    vadd.i32 q7, q7, q3
.endm

.macro rescale_twice sum, step
    vldrw.u32 q0, [r10, #16]!
    vldrw.u32 q1, [r10, #64]\step
    vqrdmulh.s32 \sum, \sum, q0
    vqrdmlash.s32 \sum, q1, r12
.endm

@ A tie is rounded away from zero: subtract one from what is negative before the shift to the right.
.macro rescale_shift sum, step
    vldrw.u32 q0, [r10, #16]!
    vldrw.u32 q1, [r10, #64]\step
    vmov.i32 q2, #0
    vmax.s32 q3, q1, q2
    vmin.s32 q1, q1, q2
    vqshl.s32 \sum, \sum, q3
    vqrdmulh.s32 \sum, \sum, q0
    vand q0, \sum, q1
    vshr.s32 q0, q0, #31
    vqadd.s32 \sum, \sum, q0
    vrshl.s32 \sum, \sum, q1
    vqadd.s32 \sum, \sum, r12
.endm

@ From sums to sixteen results at r11; r10 moves to the end of this block's channels. The flags say
@ which scaling it is (eq: by shifts) and whether saturation clamps enough (mi). Scaling by shifts
@ stands elsewhere, behind label \shift, and comes back to \back.
.macro finish tail, shift, back
    beq.w \shift\()f
    rescale_twice q4
    rescale_twice q5
    rescale_twice q6
    rescale_twice q7, !
\back:
    vqmovnb.s32 q4, q4
    vqmovnt.s32 q4, q5
    vqmovnb.s32 q6, q6
    vqmovnt.s32 q6, q7
    vqmovnb.s16 q4, q4
    vqmovnt.s16 q4, q6
    bmi 20f
    vldrw.u32 q0, [sp, #F_LOW]
    vldrw.u32 q1, [sp, #F_HIGH]
    vmax.s8 q4, q4, q0
    vmin.s8 q4, q4, q1
20:
    .if \tail
    vpst
    vstrbt.8 q4, [r11], #16
    .else
    vstrb.8 q4, [r11], #16
    .endif
.endm

.macro finish_by_shifts shift, back
\shift:
    rescale_shift q4
    rescale_shift q5
    rescale_shift q6
    rescale_shift q7, !
    b.w \back\()b
.endm

@ A function begins: registers saved, r0 the job copied to the stack, r12 its zero point.
.macro enter
    push {r0, r4-r11, lr}
    vpush {d8-d15}
    sub sp, sp, #F_BYTES
    ldr r4, [r0, #LOW]
    vdup.8 q0, r4
    vstrw.32 q0, [sp, #F_LOW]
    ldr r4, [r0, #HIGH]
    vdup.8 q0, r4
    vstrw.32 q0, [sp, #F_HIGH]
    ldrd r4, r5, [r0, #WEIGHTS]
    sub r5, r5, #16
    strd r4, r5, [sp, #F_WEIGHTS]
    ldrd r4, r5, [r0, #BLOCKS]
    strd r4, r5, [sp, #F_BLOCKS]
    ldrd r4, r5, [r0, #LOW]
    sub r5, r5, r4          @ 255: all of int8
    ldr r6, [r0, #SCALING]
    cmp r5, #255
    it eq
    rsbeq r6, r6, #0
    str r6, [sp, #F_SCALING]
    ldr r12, [r0, #ZERO_POINT]
.endm

.macro leave
    add sp, sp, #F_BYTES
    vpop {d8-d15}
    pop {r0, r4-r11, pc}
.endm

.macro block_3x3 tail, shift, back
    load_biases
    multiply r0, \tail
    multiply_add r1, \tail
    widen
    multiply r2, \tail
    multiply_add r3, \tail
    widen
    multiply r4, \tail
    multiply_add r5, \tail
    widen
    multiply r6, \tail
    multiply_add r7, \tail
    widen
    multiply r8, \tail
    widen
    finish \tail, \shift, \back
.endm

@ r1: the list of taps; r2: whether their number is odd; r6: the block's first channel; r7: pairs of
@ taps.
.macro block_any tail, shift, back
    load_biases
    mov r0, r1
    wls lr, r7, 32f
31:
    ldrd r4, r5, [r0], #8
    add r4, r4, r6
    add r5, r5, r6
    multiply r4, \tail
    multiply_add r5, \tail
    widen
    le lr, 31b
32:
    cbz r2, 33f
    ldr r4, [r0]
    add r4, r4, r6
    multiply r4, \tail
    widen
33:
    ldr r4, [sp, #F_SCALING]
    cmp r4, #0
    finish \tail, \shift, \back
.endm

    .section .text.nst_depthwise_mve_3x3, "ax", %progbits
    .global nst_depthwise_mve_3x3
    .type nst_depthwise_mve_3x3, %function
    .thumb_func
nst_depthwise_mve_3x3:
    enter
    str r2, [sp, #F_COUNT]
9:  @ a strip (r1)
    str r1, [sp, #F_STRIP]
    add r4, r1, #STEPS
    ldm r4, {r5-r8, r9, r11}
    add r4, sp, #F_STEPS
    stm r4, {r5-r8}
    str r9, [sp, #F_POSITIONS]
    ldm r1, {r0-r8}

1:  @ a position
    ldr lr, [sp, #F_SCALING]
    ldrd r9, r10, [sp, #F_WEIGHTS]
    cmp lr, #0
    ldr lr, [sp, #F_BLOCKS]
    wls lr, lr, 3f
2:
    block_3x3 0, 11, 12
    le lr, 2b
3:
    ldr lr, [sp, #F_TAIL]
    cmp lr, #0
    beq 4f
    vctp.8 lr
    ldr lr, [sp, #F_SCALING]
    cmp lr, #0
    block_3x3 1, 13, 14
    ldr lr, [sp, #F_TAIL]
    sub r11, r11, #16
    add r11, r11, lr
4:
    ldr lr, [sp, #F_POSITIONS]
    subs lr, lr, #1
    beq 5f
    str lr, [sp, #F_POSITIONS]
    ldr lr, [sp, #(F_STEPS + 12)]
    cmp lr, #0
    beq 1b
    ldr lr, [sp, #F_STEPS]
    add r0, r0, lr
    add r1, r1, lr
    add r2, r2, lr
    ldr lr, [sp, #(F_STEPS + 4)]
    add r3, r3, lr
    add r4, r4, lr
    add r5, r5, lr
    ldr lr, [sp, #(F_STEPS + 8)]
    add r6, r6, lr
    add r7, r7, lr
    add r8, r8, lr
    b 1b
5:
    ldrd r1, r2, [sp, #F_STRIP]
    add r1, r1, #STRIP_BYTES
    subs r2, r2, #1
    str r2, [sp, #F_COUNT]
    bne 9b
    leave
    finish_by_shifts 11, 12
    finish_by_shifts 13, 14
    .size nst_depthwise_mve_3x3, . - nst_depthwise_mve_3x3

    .section .text.nst_depthwise_mve_any, "ax", %progbits
    .global nst_depthwise_mve_any
    .type nst_depthwise_mve_any, %function
    .thumb_func
nst_depthwise_mve_any:
    enter
    mov r11, r3
    lsr r7, r2, #1
    and r2, r2, #1
    mov r6, #0
    ldrd r9, r10, [sp, #F_WEIGHTS]
    ldr r3, [sp, #F_BLOCKS]
    cmp r3, #0
    beq 3f
2:
    block_any 0, 11, 12
    add r6, r6, #16
    subs r3, r3, #1
    bne 2b
3:
    ldr r3, [sp, #F_TAIL]
    cmp r3, #0
    beq 4f
    vctp.8 r3
    block_any 1, 13, 14
4:
    leave
    finish_by_shifts 11, 12
    finish_by_shifts 13, 14
    .size nst_depthwise_mve_any, . - nst_depthwise_mve_any

#endif
