/* The windows of an average pool and the mean of one channel of one of them, shared by the
 * kernels. */
#ifndef NESTLING_MICRO_KERNELS_AVG_POOL_MEAN_H
#define NESTLING_MICRO_KERNELS_AVG_POOL_MEAN_H

#include "micro/kernels/avg_pool.h"
#include "micro/kernels/rounding.h"

#define NST_AVG_POOL_LARGEST 65536u /* elements of a window: a sum fits in 32 bits */

/* One window, cut to the image. */
typedef struct nst_avg_pool_window {
    size_t offset; /* of its first value in the input */
    uint32_t rows;
    uint32_t columns;
    size_t channels;  /* bytes from pixel to pixel */
    size_t row_bytes; /* bytes from row to row of the image */
} nst_avg_pool_window;

typedef struct nst_avg_pool_walk {
    uint32_t batch;
    uint32_t y;
    uint32_t x;
} nst_avg_pool_walk;

static inline nst_avg_pool_window nst_avg_pool_window_at(const nst_window_params *w,
                                                         const nst_avg_pool_walk *walk) {
    const nst_span y = nst_window_span(walk->y, w->input_height, w->kernel_height, w->stride_height,
                                       w->pad_height);
    const nst_span x =
        nst_window_span(walk->x, w->input_width, w->kernel_width, w->stride_width, w->pad_width);
    const size_t pixel =
        ((size_t)walk->batch * w->input_height + y.begin) * w->input_width + x.begin;
    return (nst_avg_pool_window){
        .offset = pixel * w->channels,
        .rows = y.end - y.begin,
        .columns = x.end - x.begin,
        .channels = w->channels,
        .row_bytes = (size_t)w->input_width * w->channels,
    };
}

/* False after the last window. Windows come in the order of the output. */
static inline bool nst_avg_pool_next(const nst_window_params *w, nst_avg_pool_walk *walk) {
    if (++walk->x < w->output_width) {
        return true;
    }
    walk->x = 0;
    if (++walk->y < w->output_height) {
        return true;
    }
    walk->y = 0;
    return ++walk->batch < w->batches;
}

/* The mean of one channel as the reference computes it; `first` is the channel's first value. */
int8_t nst_avg_pool_float_mean(const nst_avg_pool_window *window, const int8_t *first,
                               int32_t zero_point, float scale);

/* How far from a tie, in halves of the sum's unit, the float computation of `count` values may
 * stray: each addition errs by at most 2^-24 of a partial sum, which is at most 255 times the
 * values so far; one multiplication and two divisions add three such errors. 0 for up to 253
 * values. */
static inline uint32_t nst_avg_pool_doubt(uint32_t count) {
    return (uint32_t)((uint64_t)255 * count * ((uint64_t)count + 7) >> 24);
}

/* The mean of one channel of a window, given the sum of (value - zero_point). */
static inline int8_t nst_avg_pool_mean(const nst_avg_pool_window *window, const int8_t *first,
                                       int32_t sum, int32_t zero_point, float scale) {
    const uint32_t count = window->rows * window->columns;
    const uint32_t doubt = nst_avg_pool_doubt(count);
    /* round(sum / count) = floor((2 * sum + count) / (2 * count)); 512 * count makes the dividend
     * positive. */
    const uint32_t dividend = (uint32_t)(2 * sum + (int32_t)(count * 513u));
    const uint32_t quotient = dividend / (2 * count);
    const uint32_t remainder = dividend - quotient * 2 * count;
    if (remainder <= doubt || 2 * count - remainder <= doubt) {
        return nst_avg_pool_float_mean(window, first, zero_point, scale);
    }
    return (int8_t)((int32_t)quotient - 256 + zero_point);
}

#endif
