/* avg_pool with MVE: sums of sixteen channels in 16-bit lanes, means of four in floats that are
 * checked. */
#include "micro/kernels/avg_pool.h"
#include "micro/kernels/variant.h"

#if NST_MVE_FLOAT

#include <arm_mve.h>

#include "micro/kernels/avg_pool_mean.h"
#include "micro/kernels/float_order.h"

#define BLOCK 16u    /* channels */
#define LARGEST 255u /* elements of a window whose sum fits in 16 bits */

/* sums[0..15] = the sums of 16 channels over a window. */
static void sum_window(const nst_avg_pool_window *window, const int8_t *first, int16_t *sums) {
    uint32_t rows = window->rows;
    const size_t skip = window->row_bytes - window->columns * window->channels;
    __asm__ volatile(
        "   vmov.i32 q0, #0\n"
        "   vmov.i32 q1, #0\n"
        "1: dls lr, %[columns]\n"
        "2: vldrb.s16 q2, [%[pixel]]\n"
        "   vadd.i16 q0, q0, q2\n"
        "   vldrb.s16 q3, [%[pixel], #8]\n"
        "   vadd.i16 q1, q1, q3\n"
        "   add %[pixel], %[pixel], %[step]\n"
        "   le lr, 2b\n"
        "   add %[pixel], %[pixel], %[skip]\n"
        "   subs %[rows], %[rows], #1\n"
        "   bne 1b\n"
        "   vstrh.16 q0, [%[sums]]\n"
        "   vstrh.16 q1, [%[sums], #16]\n"
        : [pixel] "+l"(first), [rows] "+r"(rows)
        : [columns] "r"(window->columns), [step] "r"(window->channels), [skip] "r"(skip),
          [sums] "r"(sums)
        : "q0", "q1", "q2", "q3", "lr", "cc", "memory");
}

/* The means of four channels as the reference computes them. */
static int32x4_t float_means(const nst_avg_pool_params *p, const nst_avg_pool_window *window,
                             const int8_t *first) {
    float32x4_t sum = vdupq_n_f32(0.0f);
    for (uint32_t y = 0; y < window->rows; ++y) {
        const int8_t *pixel = first + y * window->row_bytes;
        for (uint32_t x = 0; x < window->columns; ++x, pixel += window->channels) {
            const int32x4_t value = vsubq_n_s32(vldrbq_s32(pixel), p->zero_point);
            sum = vaddq_f32(sum, vmulq_n_f32(vcvtq_f32_s32(value), p->scale));
        }
    }
    const float count = (float)(window->rows * window->columns);
    float steps[4]; /* there is no division of vectors */
    vst1q_f32(steps, sum);
    for (uint32_t i = 0; i < 4; ++i) {
        steps[i] = steps[i] / count / p->scale;
    }
    return vcvtnq_s32_f32(vld1q_f32(steps));
}

/* The means of 16 channels. Where one of four is too close to a tie, they are taken again with
 * care. */
static void write_means(const nst_avg_pool_params *p, const nst_avg_pool_window *window,
                        const int8_t *first, const int16_t *sums, int8_t *output) {
    const int32_t count = (int32_t)(window->rows * window->columns);
    const float reciprocal = 1.0f / (float)count;
    const uint32_t safe = (uint32_t)count - nst_avg_pool_doubt((uint32_t)count);
    for (uint32_t i = 0; i < BLOCK; i += 4) {
        const int32x4_t sum = vsubq_n_s32(vldrhq_s32(sums + i), count * p->zero_point);
        int32x4_t mean = vcvtnq_s32_f32(vmulq_n_f32(vcvtq_f32_s32(sum), reciprocal));
        const int32x4_t rest = vmlaq_n_s32(sum, mean, -count);
        if (2 * vmaxavq_s32(0, rest) >= safe) {
            mean = float_means(p, window, first + i);
        }
        vstrbq_s32(output + i, vaddq_n_s32(mean, p->zero_point));
    }
}

void nst_avg_pool_run(const void *params, void *const *tensors, void *scratch) {
    const nst_avg_pool_params *p = params;
    const uint32_t channels = p->window.channels;
    if (channels < BLOCK || p->window.kernel_height * p->window.kernel_width > LARGEST) {
        nst_avg_pool_portable(params, tensors, scratch);
        return;
    }
    int8_t *output = tensors[1];
    nst_avg_pool_walk walk = {0};
    do {
        nst_avg_pool_window window = nst_avg_pool_window_at(&p->window, &walk);
        const int8_t *first = (const int8_t *)tensors[0] + window.offset;
        if (window.row_bytes == window.columns * window.channels) { /* one long row */
            window.columns *= window.rows;
            window.rows = 1;
        }
        for (uint32_t next = 0; next < channels; next += BLOCK) {
            /* The last block may overlap the one before: the same values again. */
            const uint32_t c = next + BLOCK <= channels ? next : channels - BLOCK;
            int16_t sums[BLOCK];
            sum_window(&window, first + c, sums);
            write_means(p, &window, first + c, sums, output + c);
        }
        output += channels;
    } while (nst_avg_pool_next(&p->window, &walk));
}

#endif
