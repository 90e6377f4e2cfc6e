/* Rows of weights in NST_LAYOUT_DSP against columns of input: what conv2d and linear share on
 * Armv7E-M.
 *
 * A column is one position's taps as 16-bit pairs in the order of the weights: taps 0 and 2 of
 * each four, then 1 and 3. Three columns lie interleaved, word by word, so that one LDM brings
 * the same pair of all three.
 *
 * Two rows a and b share each weight word: halfword = 256 * b + (a + 128). Multiplied as it is,
 * it adds to s = A + 256 * B; with the high bytes cleared, to A = sum of input * (a + 128). So
 * one expansion serves two rows, and B = (s - A) / 256, exact as long as |B| < 2^23: B is taken
 * out every NST_DSP_SEGMENT taps. A column begins with -128 * sum of its taps, from which both
 * accumulators start. */
#ifndef NESTLING_MICRO_KERNELS_ROWS_DSP_H
#define NESTLING_MICRO_KERNELS_ROWS_DSP_H

#include <stdint.h>

#include "micro/kernels/requantize.h"

/* 128 * 128 * 496 < 2^23. A multiple of 16, so that the unrolled loop does all of it. */
#define NST_DSP_SEGMENT 496u

typedef struct nst_dsp_rows {
    const int8_t *weights;   /* of rows / 2 pairs, rounded up */
    const int32_t *channels; /* nst_channel of each row */
    uint32_t rows;
    uint32_t taps; /* of a row, padded: a multiple of 4 */
    nst_scaling scaling;
    int32_t zero_point; /* of the output */
} nst_dsp_rows;

/* Bytes of `columns` columns. */
static inline uint64_t nst_dsp_columns_bytes(uint32_t columns, uint64_t taps) {
    return columns * (sizeof(int32_t) + 2 * taps);
}

/* A column that is being filled. */
typedef struct nst_dsp_column {
    uint32_t *next; /* where its next word goes */
    uint32_t step;  /* words to the one after that: 1, or 3 where three columns are interleaved */
    int32_t sum;    /* of its taps so far */
} nst_dsp_column;

/* Column number `index` of `columns` (1 or 3) in `memory`. */
static inline nst_dsp_column nst_dsp_begin_column(uint32_t *memory, uint32_t columns,
                                                  uint32_t index) {
    return (nst_dsp_column){memory + columns + index, columns, 0};
}

/* In rows_dsp.S: append `rows` times `words` words of taps, gap_bytes between them, to a column,
 * alone or one of three; return the sum with them. None of the counts is 0. */
int32_t nst_dsp_append_rows_to_one(uint32_t *next, const int8_t *taps, uint32_t words, int32_t sum,
                                   uint32_t rows, uint32_t gap_bytes);
int32_t nst_dsp_append_rows_to_three(uint32_t *next, const int8_t *taps, uint32_t words,
                                     int32_t sum, uint32_t rows, uint32_t gap_bytes);

/* Appends `rows` times `words` times four taps; `step_bytes` from row to row. */
static inline void nst_dsp_append_rows(nst_dsp_column *column, const int8_t *taps, uint32_t words,
                                       uint32_t rows, uint32_t step_bytes) {
    const uint32_t gap_bytes = step_bytes - 4 * words; /* may wrap: rows may overlap */
    column->sum =
        column->step == 1
            ? nst_dsp_append_rows_to_one(column->next, taps, words, column->sum, rows, gap_bytes)
            : nst_dsp_append_rows_to_three(column->next, taps, words, column->sum, rows, gap_bytes);
    column->next += 2 * column->step * words * rows;
}

/* Appends `words` times four taps, at least one. */
static inline void nst_dsp_append_words(nst_dsp_column *column, const int8_t *taps,
                                        uint32_t words) {
    nst_dsp_append_rows(column, taps, words, 1, 4 * words);
}

/* Appends `count` taps; what is missing to a multiple of 4 becomes 0. */
void nst_dsp_append(nst_dsp_column *column, const int8_t *taps, uint32_t count);

/* Appends `count` taps, a multiple of 4, all of one value. */
void nst_dsp_append_value(nst_dsp_column *column, int8_t value, uint32_t count);

static inline void nst_dsp_end_column(uint32_t *memory, uint32_t index, nst_dsp_column column) {
    memory[index] = (uint32_t)(column.sum * -128);
}

/* All rows against one column: writes rows->rows bytes. */
void nst_dsp_one_column(const nst_dsp_rows *rows, const uint32_t *columns, int8_t *output);

/* All rows against three columns; `step` bytes from the first column's outputs to the second's. */
void nst_dsp_three_columns(const nst_dsp_rows *rows, const uint32_t *columns, int8_t *output,
                           uint32_t step);

#endif
