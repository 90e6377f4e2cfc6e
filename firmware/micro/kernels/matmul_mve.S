@ nst_matmul_mve_pairs and nst_matmul_mve_singles: see matmul_mve.h.
@
@ Four rows of weights at a time, times two columns (or one). VMLADAVA adds 16 products to an even core register:
@ column 0 has r0 r2 r4 r6, column 1 has r8 r10 r12 lr. A step of 16 taps is 14 instructions for 128 products.
@ Eight steps stand in a row; a run enters them where as many are left as it needs, so that the usual run of up to
@ 128 taps has no loop.
@
@   r1  weights      r3 r5  columns     r9  table of channels: bias[4] multiplier[4] scale[4]
@   r11 runs left    r7     short runs (up to 8 steps): bytes to the next run; long runs: passes left
@   q4 q5 activation's bounds, as 16 bits     q6 where the eight results go, from the output of column 0 on
#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1)

    .syntax unified
    .thumb

@ Fields of nst_matmul_strip.
#define COLUMN0 0
#define COLUMN1 4
#define RUN_VECTORS 8
#define RUNS 12
#define RUN_STEP 16
#define WEIGHTS 20
#define CHANNELS 24
#define ROWS 28
#define OUTPUT0 32
#define OUTPUT1_OFFSET 36
#define PAIRS 40
#define COLUMN_STEP 44
#define OUTPUT_STEP 48
#define ZERO_POINT 52
#define LOW 56
#define HIGH 60
#define SCALING 64

@ What lies on the stack. The first four are loaded together: r3 r5 r7 r11.
#define F_COLUMN0 0
#define F_COLUMN1 4
#define F_R7 8
#define F_RUNS 12
#define F_ENTRY 16
#define F_OUTPUT 20
#define F_LEFT 24
#define F_ZERO_POINT 28
#define F_RESCALE 32
#define F_RUN_STEP 36
#define F_PAIRS 40
#define F_BLOCK 44
#define F_BYTES 48

.macro step2
    vldrb.u8 q0, [r3], #16
    vldrb.u8 q1, [r5], #16
    vldrw.u32 q2, [r1], #64
    vmladava.s8 r0, q2, q0
    vldrw.u32 q3, [r1, #-48]
    vmladava.s8 r8, q2, q1
    vmladava.s8 r2, q3, q0
    vldrw.u32 q2, [r1, #-32]
    vmladava.s8 r10, q3, q1
    vmladava.s8 r4, q2, q0
    vldrw.u32 q3, [r1, #-16]
    vmladava.s8 r12, q2, q1
    vmladava.s8 r6, q3, q0
    vmladava.s8 lr, q3, q1
.endm

.macro step1
    vldrb.u8 q0, [r3], #16
    vldrw.u32 q2, [r1], #64
    vldrw.u32 q3, [r1, #-48]
    vmladava.s8 r0, q2, q0
    vldrw.u32 q2, [r1, #-32]
    vmladava.s8 r2, q3, q0
    vldrw.u32 q3, [r1, #-16]
    vmladava.s8 r4, q2, q0
    vmladava.s8 r6, q3, q0
.endm

#define STEP2_BYTES 56
#define STEP1_BYTES 36

@ A block begins with its biases.
.macro begin_block columns
    .if \columns == 2
    ldm r9, {r8, r10, r12, lr}
    .endif
    ldm r9!, {r0, r2, r4, r6}
    ldm sp, {r3, r5, r7, r11}
    ldr pc, [sp, #F_ENTRY]
.endm

@ The scale of a block, from accumulators to q0 (and q1), zero point added.
.macro accumulators columns
    vmov q0[2], q0[0], r0, r4
    vmov q0[3], q0[1], r2, r6
    .if \columns == 2
    vmov q1[2], q1[0], r8, r12
    vmov q1[3], q1[1], r10, lr
    .endif
    vldrw.u32 q2, [r9], #16
    vldrw.u32 q3, [r9], #16
    ldrd r2, r4, [sp, #F_OUTPUT]
    ldr r6, [sp, #F_ZERO_POINT]
.endm

.macro rescale_twice columns
    vqrdmulh.s32 q0, q0, q2
    .if \columns == 2
    vqrdmulh.s32 q1, q1, q2
    .endif
    vqrdmlash.s32 q0, q3, r6
    .if \columns == 2
    vqrdmlash.s32 q1, q3, r6
    .endif
.endm

@ q3: shifts; q2: multipliers; q7: scratch. A tie is rounded away from zero: subtract one from what is negative first.
.macro rescale_one value
    vand q7, \value, q3
    vshr.s32 q7, q7, #31
    vqadd.s32 \value, \value, q7
    vrshl.s32 \value, \value, q3
    vqadd.s32 \value, \value, r6
.endm

.macro rescale_shift columns
    vmov.i32 q7, #0
    vmax.s32 q7, q7, q3
    vqshl.s32 q0, q0, q7
    vqrdmulh.s32 q0, q0, q2
    .if \columns == 2
    vqshl.s32 q1, q1, q7
    vqrdmulh.s32 q1, q1, q2
    .endif
    vmov.i32 q7, #0
    vmin.s32 q3, q3, q7
    rescale_one q0
    .if \columns == 2
    rescale_one q1
    .endif
.endm

@ Clamp and store the results of four rows (those that exist); on to the next block or out.
.macro finish_block columns, next_block
    vqmovnb.s32 q0, q0
    .if \columns == 2
    vqmovnt.s32 q0, q1
    .endif
    vmax.s16 q0, q0, q4
    vmin.s16 q0, q0, q5
    .if \columns == 2
    vctp.16 r4
    vpst
    vstrbt.16 q0, [r2, q6]
    subs r4, r4, #8
    .else
    vctp.32 r4
    vpst
    vstrbt.32 q0, [r2]
    subs r4, r4, #4
    .endif
    add.w r2, r2, #4
    strd r2, r4, [sp, #F_OUTPUT]
    bgt.w \next_block
    b.w 9f
.endm

.macro kernel name, columns, step, step_bytes
    .global \name
    .type \name, %function
    .balign 4
    .thumb_func
\name:
    push {r0, r4-r11, lr}
    vpush {d8-d15}
    sub sp, sp, #F_BYTES

    @ Constants of the whole strip.
    ldr r1, [r0, #LOW]
    vdup.16 q4, r1
    ldr r1, [r0, #HIGH]
    vdup.16 q5, r1
    ldr r2, [r0, #OUTPUT1_OFFSET]
    mov r4, #0
    vidup.u16 q6, r4, #1     @ 0 1 2 3 ...
    vmov.i16 q7, #1
    vand q7, q6, q7          @ 0 1 0 1: the column
    vmul.i16 q7, q7, r2
    vshr.u16 q6, q6, #1
    vadd.i16 q6, q6, q7
    ldr r2, [r0, #ZERO_POINT]
    str r2, [sp, #F_ZERO_POINT]
    ldr r2, [r0, #PAIRS]
    str r2, [sp, #F_PAIRS]
    ldr r2, [r0, #RUNS]
    str r2, [sp, #F_RUNS]
    ldr r4, [r0, #RUN_STEP]
    str r4, [sp, #F_RUN_STEP]
    ldrd r2, r3, [r0, #COLUMN0]
    strd r2, r3, [sp, #F_COLUMN0]
    ldr r2, [r0, #OUTPUT0]
    str r2, [sp, #F_OUTPUT]

    @ Short or long runs, where they enter, how results are rescaled.
    ldr r5, [r0, #RUN_VECTORS]
    ldr r6, [r0, #SCALING]
    cmp r5, #8
    bhi 1f
    adr r2, 20f              @ short
    rsb r3, r5, #8
    adr r7, 31f
    cmp r6, #0
    it eq
    adreq r7, 32f
    b 2f
1:
    add r3, r5, #7           @ long: ceil(vectors / 8) passes, the first one shorter
    lsr r4, r3, #3           @ r4: passes, in place of the step
    bic r3, r3, #7
    sub r3, r3, r5           @ steps left out
    adr.w r2, 40f
    adr.w r7, 31f
    cmp r6, #0
    it eq
    adreq.w r7, 32f
2:
    mov r8, #\step_bytes
    mla r2, r3, r8, r2
    add r2, r2, #1           @ Thumb
    add r7, r7, #1
    str r2, [sp, #F_ENTRY]
    str r7, [sp, #F_RESCALE]
    str r4, [sp, #F_R7]

    @ A pair of columns (r0: the strip).
3:
    ldr r1, [r0, #WEIGHTS]
    ldr r9, [r0, #CHANNELS]
    ldr r4, [r0, #ROWS]
    .if \columns == 2
    lsl r4, r4, #1
    .endif
    str r4, [sp, #F_LEFT]

10: @ a block of four rows
    begin_block \columns

    .balign 4
20: @ short runs
    .rept 8
    \step
    .endr
    subs r11, r11, #1
    it eq
    ldreq pc, [sp, #F_RESCALE]
    add r3, r7
    add r5, r7
    ldr pc, [sp, #F_ENTRY]

    .balign 4
31: @ rescale by two multiplications
    accumulators \columns
    rescale_twice \columns
    finish_block \columns, 10b

    .balign 4
32: @ rescale by multiplication and shift
    accumulators \columns
    rescale_shift \columns
    finish_block \columns, 10b

    .balign 4
40: @ long runs
    .rept 8
    \step
    .endr
    subs r7, r7, #1
    bne 40b
    subs r11, r11, #1
    it eq
    ldreq pc, [sp, #F_RESCALE]
    ldr r7, [sp, #F_RUN_STEP]
    add r3, r7
    add r5, r7
    ldr r7, [sp, #F_R7]
    ldr pc, [sp, #F_ENTRY]

9:  @ the next pair
    ldr r0, [sp, #(F_BYTES + 64)]
    ldr r4, [sp, #F_PAIRS]
    subs r4, r4, #1
    beq 8f
    str r4, [sp, #F_PAIRS]
    ldrd r2, r3, [sp, #F_COLUMN0]
    ldrd r4, r5, [r0, #COLUMN_STEP]
    add r2, r2, r4
    add r3, r3, r4
    strd r2, r3, [sp, #F_COLUMN0]
    ldr r2, [sp, #F_OUTPUT]  @ has moved on by the rows, rounded up to four
    ldr r3, [r0, #ROWS]
    add r3, r3, #3
    bic r3, r3, #3
    sub r2, r2, r3
    add r2, r2, r5
    str r2, [sp, #F_OUTPUT]
    b.w 3b

8:
    add sp, sp, #F_BYTES
    vpop {d8-d15}
    pop {r0, r4-r11, pc}
    .size \name, . - \name
.endm

    .section .text.nst_matmul_mve_pairs, "ax", %progbits
    kernel nst_matmul_mve_pairs, 2, step2, STEP2_BYTES

    .section .text.nst_matmul_mve_singles, "ax", %progbits
    kernel nst_matmul_mve_singles, 1, step1, STEP1_BYTES

#endif
