@ nst_matmul_mve_pairs and nst_matmul_mve_single: see matmul_mve.h.
@
@ VMLADAVA adds 16 products to an even core register; there are eight of them. For a pair of columns
@ they are four rows of weights times two columns, and a step of 16 taps takes 14 instructions for
@ 128 products; for a single column they are eight rows, and a step takes 17.
@
@ Eight steps stand in a row; a run enters them where as many are left as it needs, so that the
@ usual run of up to 128 taps has no loop.
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
#define F_SCALE 48     /* a vector */
#define F_BYTES 64

.macro step
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

#define STEP_BYTES 56

@ Rescale q0 and q1 by the multipliers in q2, q3 and add the zero point in r6. For a pair of columns
@ they belong to both; for two blocks of rows q3 holds the second multiplier or shift.
.macro rescale_twice value, multiplier, scale
    vqrdmulh.s32 \value, \value, \multiplier
    vqrdmlash.s32 \value, \scale, r6
.endm

@ A tie is rounded away from zero: subtract one from what is negative before the shift to the right.
@ Spoils q7 and the scale.
.macro rescale_shift value, multiplier, scale
    vmov.i32 q7, #0
    vmax.s32 q7, q7, \scale
    vqshl.s32 \value, \value, q7
    vqrdmulh.s32 \value, \value, \multiplier
    vmov.i32 q7, #0
    vmin.s32 \scale, \scale, q7
    vand q7, \value, \scale
    vshr.s32 q7, q7, #31
    vqadd.s32 \value, \value, q7
    vrshl.s32 \value, \value, \scale
    vqadd.s32 \value, \value, r6
.endm

@ Clamp q0 and q1 into q0: 16 bits each, lanes of q0 and q1 in turn.
.macro narrow
    vqmovnb.s32 q0, q0
    vqmovnt.s32 q0, q1
    vmax.s16 q0, q0, q4
    vmin.s16 q0, q0, q5
.endm

@ Where to enter eight steps of \step_bytes at r2 for r5 steps. Result: r2 the entry, r4 the passes.
@ Spoils r3.
.macro entry step_bytes
    add r3, r5, #7
    lsr r4, r3, #3
    bic r3, r3, #7
    sub r3, r3, r5          @ steps left out of the first pass
    mov r6, #\step_bytes
    mla r2, r3, r6, r2
    add r2, r2, #1          @ Thumb
.endm

.macro enter bytes
    push {r0, r4-r11, lr}
    vpush {d8-d15}
    sub sp, sp, #\bytes
    ldr r1, [r0, #LOW]
    vdup.16 q4, r1
    ldr r1, [r0, #HIGH]
    vdup.16 q5, r1
.endm

.macro leave bytes
    add sp, sp, #\bytes
    vpop {d8-d15}
    pop {r0, r4-r11, pc}
.endm

@ ---- Pairs of columns: column 0 has r0 r2 r4 r6, column 1 has r8 r10 r12 lr.
@
@   r1  weights      r3 r5  columns     r9  table of channels: bias[4] multiplier[4] scale[4]
@   r11 runs left    r7     short runs (up to 8 steps): bytes to the next run; long runs: passes left
@   q4 q5 activation's bounds, as 16 bits     q6 where the eight results go, from the output of column 0 on

    .section .text.nst_matmul_mve_pairs, "ax", %progbits
    .global nst_matmul_mve_pairs
    .type nst_matmul_mve_pairs, %function
    .balign 4
    .thumb_func
nst_matmul_mve_pairs:
    enter F_BYTES
    ldr r2, [r0, #OUTPUT1_OFFSET]
    mov r4, #0
    vidup.u16 q6, r4, #1     @ 0 1 2 3 ...
    vmov.i16 q7, #1
    vand q7, q6, q7          @ 0 1 0 1: the column
    vmul.i16 q7, q7, r2
    vshr.u16 q6, q6, #1      @ 0 0 1 1: the row
    vadd.i16 q6, q6, q7
    ldr r2, [r0, #ZERO_POINT]
    str r2, [sp, #F_ZERO_POINT]
    ldr r2, [r0, #PAIRS]
    str r2, [sp, #F_PAIRS]
    ldr r2, [r0, #RUNS]
    str r2, [sp, #F_RUNS]
    ldrd r2, r3, [r0, #COLUMN0]
    strd r2, r3, [sp, #F_COLUMN0]
    ldr r2, [r0, #OUTPUT0]
    str r2, [sp, #F_OUTPUT]
    ldr r8, [r0, #RUN_STEP]
    str r8, [sp, #F_RUN_STEP]

    ldr r5, [r0, #RUN_VECTORS]
    adr.w r2, 20f            @ short runs
    cmp r5, #8
    it hi
    adrhi.w r2, 40f          @ long ones
    entry STEP_BYTES
    cmp r5, #8
    it hi
    movhi r8, r4             @ passes, in place of the step
    str r8, [sp, #F_R7]
    str r2, [sp, #F_ENTRY]
    ldr r6, [r0, #SCALING]
    adr.w r7, 31f
    cmp r6, #0
    it eq
    adreq.w r7, 32f
    add r7, r7, #1
    str r7, [sp, #F_RESCALE]

3:  @ a pair (r0: the strip)
    ldr r1, [r0, #WEIGHTS]
    ldr r9, [r0, #CHANNELS]
    ldr r4, [r0, #ROWS]
    lsl r4, r4, #1
    str r4, [sp, #F_LEFT]

10: @ a block of four rows begins with its biases
    ldm r9, {r8, r10, r12, lr}
    ldm r9!, {r0, r2, r4, r6}
    ldm sp, {r3, r5, r7, r11}
    ldr pc, [sp, #F_ENTRY]

    .balign 4
20: @ short runs
    .rept 8
    step
    .endr
    subs r11, r11, #1
    it eq
    ldreq pc, [sp, #F_RESCALE]
    add r3, r7
    add r5, r7
    ldr pc, [sp, #F_ENTRY]

.macro accumulators
    vmov q0[2], q0[0], r0, r4
    vmov q0[3], q0[1], r2, r6
    vmov q1[2], q1[0], r8, r12
    vmov q1[3], q1[1], r10, lr
    vldrw.u32 q2, [r9], #16
    vldrw.u32 q3, [r9], #16
    ldrd r2, r4, [sp, #F_OUTPUT]
    ldr r6, [sp, #F_ZERO_POINT]
.endm

    .balign 4
31: @ rescale by two multiplications
    accumulators
    rescale_twice q0, q2, q3
    rescale_twice q1, q2, q3
33: @ store the results of four rows, those that exist
    narrow
    subs r4, r4, #8
    bmi 34f
    vstrb.16 q0, [r2, q6]
    add.w r2, r2, #4
    strd r2, r4, [sp, #F_OUTPUT]
    bne.w 10b

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
    leave F_BYTES

34: @ the last rows are fewer than four
    add r4, r4, #8
    vctp.16 r4
    vpst
    vstrbt.16 q0, [r2, q6]
    add r2, r2, #4
    str r2, [sp, #F_OUTPUT]
    b 9b

    .balign 4
32: @ rescale by multiplication and shift
    accumulators
    vstrw.32 q3, [sp, #F_SCALE]
    rescale_shift q0, q2, q3
    vldrw.u32 q3, [sp, #F_SCALE]
    rescale_shift q1, q2, q3
    b.w 33b

    .balign 4
40: @ long runs
    .rept 8
    step
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
    .size nst_matmul_mve_pairs, . - nst_matmul_mve_pairs

@ ---- A single column, in one run: rows 0-3 have r0 r2 r4 r6, rows 4-7 have r8 r10 r12 lr.
@
@   r1 r5 weights of both blocks     r3 column     r7 passes left     r9 r11 tables of channels of both blocks
@   q6  0 4 1 5 2 6 3 7: where the eight results go, and which of them exist
@
@ Where only one block is left, both are the same.

#define STEP8_BYTES 68

.macro step8
    vldrb.u8 q0, [r3], #16
    vldrw.u32 q1, [r1], #64
    vldrw.u32 q2, [r1, #-48]
    vmladava.s8 r0, q1, q0
    vldrw.u32 q3, [r1, #-32]
    vmladava.s8 r2, q2, q0
    vldrw.u32 q1, [r1, #-16]
    vmladava.s8 r4, q3, q0
    vldrw.u32 q2, [r5], #64
    vmladava.s8 r6, q1, q0
    vldrw.u32 q3, [r5, #-48]
    vmladava.s8 r8, q2, q0
    vldrw.u32 q1, [r5, #-32]
    vmladava.s8 r10, q3, q0
    vldrw.u32 q2, [r5, #-16]
    vmladava.s8 r12, q1, q0
    vmladava.s8 lr, q2, q0
.endm

#define G_COLUMN 0
#define G_PASSES 4
#define G_ENTRY 8
#define G_BLOCK 12      /* bytes of four rows of weights */
#define G_OUTPUT 16
#define G_LEFT 20
#define G_ZERO_POINT 24
#define G_SCALING 28
#define G_BYTES 32

    .section .text.nst_matmul_mve_single, "ax", %progbits
    .global nst_matmul_mve_single
    .type nst_matmul_mve_single, %function
    .balign 4
    .thumb_func
nst_matmul_mve_single:
    enter G_BYTES
    mov r4, #0
    vidup.u16 q6, r4, #1     @ 0 1 2 3 ...
    vmov.i16 q7, #1
    vand q7, q6, q7          @ 0 1 0 1: the block
    vshl.i16 q7, q7, #2
    vshr.u16 q6, q6, #1
    vadd.i16 q6, q6, q7
    ldr r5, [r0, #RUN_VECTORS]
    adr.w r2, 20f
    entry STEP8_BYTES
    ldr r3, [r0, #COLUMN0]
    strd r3, r4, [sp, #G_COLUMN]
    lsl r5, r5, #6
    strd r2, r5, [sp, #G_ENTRY]
    ldr r2, [r0, #OUTPUT0]
    ldr r4, [r0, #ROWS]
    strd r2, r4, [sp, #G_OUTPUT]
    ldr r2, [r0, #ZERO_POINT]
    ldr r3, [r0, #SCALING]
    strd r2, r3, [sp, #G_ZERO_POINT]
    ldr r1, [r0, #WEIGHTS]
    ldr r9, [r0, #CHANNELS]

10: @ eight rows (r4: rows left)
    mov r5, r1
    mov r11, r9
    cmp r4, #4
    ittt gt
    ldrgt r5, [sp, #G_BLOCK]
    addgt r5, r1, r5
    addgt r11, r9, #48
    ldm r9!, {r0, r2, r4, r6}
    ldm r11!, {r8, r10, r12, lr}
    ldrd r3, r7, [sp, #G_COLUMN]
    ldr pc, [sp, #G_ENTRY]

    .balign 4
20:
    .rept 8
    step8
    .endr
    subs r7, r7, #1
    bne 20b

    vmov q0[2], q0[0], r0, r4
    vmov q0[3], q0[1], r2, r6
    vmov q1[2], q1[0], r8, r12
    vmov q1[3], q1[1], r10, lr
    ldrd r6, r8, [sp, #G_ZERO_POINT]
    vldrw.u32 q2, [r9], #16
    vldrw.u32 q3, [r9], #16
    cmp r8, #0
    beq 32f
    rescale_twice q0, q2, q3
    vldrw.u32 q2, [r11], #16
    vldrw.u32 q3, [r11], #16
    rescale_twice q1, q2, q3
33:
    ldrd r2, r4, [sp, #G_OUTPUT]
    narrow
    vpt.s16 lt, q6, r4
    vstrbt.16 q0, [r2, q6]
    mov r1, r5
    mov r9, r11
    add r2, r2, #8
    subs r4, r4, #8
    strd r2, r4, [sp, #G_OUTPUT]
    bgt 10b
    leave G_BYTES

32: @ rescale by multiplication and shift
    rescale_shift q0, q2, q3
    vldrw.u32 q2, [r11], #16
    vldrw.u32 q3, [r11], #16
    rescale_shift q1, q2, q3
    b 33b
    .size nst_matmul_mve_single, . - nst_matmul_mve_single

#endif
