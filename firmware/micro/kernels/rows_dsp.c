#include "micro/kernels/rows_dsp.h"

#include "micro/kernels/variant.h"

#if NST_DSP

#include <stdbool.h>

#include "micro/kernels/scale_dsp.h"

#define SEGMENT_FOURS (NST_DSP_SEGMENT / 4)

void nst_dsp_append(nst_dsp_column *column, const int8_t *taps, uint32_t count) {
    const uint32_t words = count / 4;
    const uint32_t rest = count % 4;
    if (words > 0) {
        nst_dsp_append_words(column, taps, words);
    }
    if (rest > 0) {
        int8_t last[4] = {0};
        for (uint32_t i = 0; i < rest; ++i) {
            last[i] = taps[4 * words + i];
        }
        nst_dsp_append_words(column, last, 1);
    }
}

void nst_dsp_append_value(nst_dsp_column *column, int8_t value, uint32_t count) {
    const uint32_t half = (uint16_t)value;
    const uint32_t pair = half << 16 | half;
    uint32_t *next = column->next;
    for (uint32_t i = 0; i < count; i += 2) {
        *next = pair;
        next += column->step;
    }
    column->next = next;
    column->sum += (int32_t)count * value;
}

/* In rows_dsp.S. sums: A of each column, then s of each. Both start from A as it comes in and go on
 * for `fours` times four taps of two rows, at least one. */
void nst_dsp_add_three(int32_t sums[6], const uint32_t *column, const int8_t *weights,
                       uint32_t fours);
void nst_dsp_add_one(int32_t sums[2], const uint32_t *column, const int8_t *weights,
                     uint32_t fours);

/* Pairs of rows, outputs included, for NST_SCALING_TWICE. rows_dsp.S knows where each field is, and
 * moves what moves from pair to pair. */
typedef struct pairs_job {
    const uint32_t *columns;
    const int8_t *weights;
    const int32_t *channels;
    int8_t *output;
    uint32_t step; /* bytes from a column's outputs to the next one's */
    int32_t zero_point;
    uint32_t fours;
    uint32_t pairs;       /* at least one */
    uint32_t left;        /* of a long row */
    int32_t doubled_b[3]; /* of a long row */
} pairs_job;

/* Rows of one segment, and longer ones. */
void nst_dsp_three_by_pairs(pairs_job *job);
void nst_dsp_three_by_long_pairs(pairs_job *job);
void nst_dsp_one_by_pairs(pairs_job *job);
void nst_dsp_one_by_long_pairs(pairs_job *job);

/* Whether there are pairs to do in assembly; if so `job` is filled. */
static bool begin_pairs(const nst_dsp_rows *rows, const uint32_t *columns, int8_t *output,
                        uint32_t step, pairs_job *job) {
    *job = (pairs_job){
        .columns = columns,
        .weights = rows->weights,
        .channels = rows->channels,
        .output = output,
        .step = step,
        .zero_point = rows->zero_point,
        .fours = rows->taps / 4,
        .pairs = rows->rows / 2,
    };
    return rows->scaling == NST_SCALING_TWICE && rows->rows >= 2;
}

/* What the assembly left: the last of an odd number of rows. */
static nst_dsp_rows rows_after(const nst_dsp_rows *rows, const pairs_job *job) {
    nst_dsp_rows left = *rows;
    left.weights = job->weights;
    left.channels = job->channels;
    left.rows = rows->rows % 2;
    return left;
}

/* All segments of a long row but the last: takes 2 * B out of s after each. Returns how many
 * times four taps follow. */
static __attribute__((noinline)) uint32_t add_three_long(int32_t *sums, int32_t *b,
                                                         const uint32_t *column,
                                                         const int8_t *weights, uint32_t fours) {
    for (; fours > SEGMENT_FOURS; fours -= SEGMENT_FOURS) {
        nst_dsp_add_three(sums, column, weights, SEGMENT_FOURS);
        for (uint32_t i = 0; i < 3; ++i) {
            b[i] += (sums[3 + i] - sums[i]) >> 7;
        }
        column += SEGMENT_FOURS * 6;
        weights += SEGMENT_FOURS * 8;
    }
    return fours;
}

static inline void store_three(int8_t *output, uint32_t step, const int32_t *doubled,
                               nst_channel channel, const nst_dsp_rows *rows) {
    if (rows->scaling == NST_SCALING_TWICE) {
        for (uint32_t i = 0; i < 3; ++i) {
            output[i * step] = nst_dsp_twice(doubled[i], channel, rows->zero_point);
        }
        return;
    }
    for (uint32_t i = 0; i < 3; ++i) {
        output[i * step] = nst_dsp_shift(doubled[i], channel, rows->zero_point);
    }
}

static void any_three_columns(const nst_dsp_rows *rows, const uint32_t *columns, int8_t *output,
                              uint32_t step) {
    const int32_t *start = (const int32_t *)columns;
    const nst_channel *channel = (const nst_channel *)rows->channels;
    const uint32_t fours = rows->taps / 4;
    const int8_t *weights = rows->weights;
    columns += 3;
    for (uint32_t left = rows->rows;; left -= 2, channel += 2, output += 2, weights += fours * 8) {
        int32_t sums[6];
        int32_t b[3];
        for (uint32_t i = 0; i < 3; ++i) {
            sums[i] = start[i];
        }
        if (fours <= SEGMENT_FOURS) {
            nst_dsp_add_three(sums, columns, weights, fours);
            for (uint32_t i = 0; i < 3; ++i) {
                b[i] = (sums[3 + i] - sums[i]) >> 7;
            }
        } else {
            b[0] = b[1] = b[2] = 0;
            const uint32_t last = add_three_long(sums, b, columns, weights, fours);
            nst_dsp_add_three(sums, columns + (fours - last) * 6, weights + (fours - last) * 8,
                              last);
            for (uint32_t i = 0; i < 3; ++i) {
                b[i] += (sums[3 + i] - sums[i]) >> 7;
            }
        }
        const int32_t a[3] = {sums[0] * 2, sums[1] * 2, sums[2] * 2};
        store_three(output, step, a, channel[0], rows);
        if (left == 1) {
            return;
        }
        store_three(output + 1, step, b, channel[1], rows);
        if (left == 2) {
            return;
        }
    }
}

static inline int8_t output_of(int32_t doubled, nst_channel channel, const nst_dsp_rows *rows) {
    return rows->scaling == NST_SCALING_TWICE ? nst_dsp_twice(doubled, channel, rows->zero_point)
                                              : nst_dsp_shift(doubled, channel, rows->zero_point);
}

static void any_one_column(const nst_dsp_rows *rows, const uint32_t *columns, int8_t *output) {
    const nst_channel *channel = (const nst_channel *)rows->channels;
    const int8_t *weights = rows->weights;
    for (uint32_t left = rows->rows;; left -= 2, channel += 2) {
        int32_t sums[2] = {(int32_t)columns[0], 0};
        int32_t b = 0;
        const uint32_t *column = columns + 1;
        for (uint32_t fours = rows->taps / 4; fours > 0;) {
            const uint32_t now = fours < SEGMENT_FOURS ? fours : SEGMENT_FOURS;
            nst_dsp_add_one(sums, column, weights, now);
            b += (sums[1] - sums[0]) >> 7;
            column += now * 2;
            weights += now * 8;
            fours -= now;
        }
        *output++ = output_of(sums[0] * 2, channel[0], rows);
        if (left == 1) {
            return;
        }
        *output++ = output_of(b, channel[1], rows);
        if (left == 2) {
            return;
        }
    }
}

void nst_dsp_three_columns(const nst_dsp_rows *rows, const uint32_t *columns, int8_t *output,
                           uint32_t step) {
    pairs_job job;
    if (!begin_pairs(rows, columns, output, step, &job)) {
        any_three_columns(rows, columns, output, step);
        return;
    }
    if (rows->taps <= NST_DSP_SEGMENT) {
        nst_dsp_three_by_pairs(&job);
    } else {
        nst_dsp_three_by_long_pairs(&job);
    }
    if (rows->rows % 2 != 0) {
        const nst_dsp_rows left = rows_after(rows, &job);
        any_three_columns(&left, columns, job.output, step);
    }
}

void nst_dsp_one_column(const nst_dsp_rows *rows, const uint32_t *columns, int8_t *output) {
    pairs_job job;
    if (!begin_pairs(rows, columns, output, 0, &job)) {
        any_one_column(rows, columns, output);
        return;
    }
    if (rows->taps <= NST_DSP_SEGMENT) {
        nst_dsp_one_by_pairs(&job);
    } else {
        nst_dsp_one_by_long_pairs(&job);
    }
    if (rows->rows % 2 != 0) {
        const nst_dsp_rows left = rows_after(rows, &job);
        any_one_column(&left, columns, job.output);
    }
}

#endif
