/* How weights and the numbers of output channels lie in a plan's constants.
 *
 * The compiler of plans lays them out for one core
 * (toolchain/nestling/targets/cortex_m/packing.py). The portable kernels read every layout, so that
 * any plan runs on a host with the same bytes as its result.
 *
 * What all layouts share: the input's zero point is folded into the bias, so that an accumulator is
 * bias + sum of input * weight, and a tap in the padding reads the zero point. Accumulators wrap at
 * 32 bits.
 *
 * Matrices (conv2d and linear): `rows` output channels, each a row of taps. A row is cut into
 * `runs` equal runs of `run_bytes` taps that lie in one piece in the input.
 *   NST_LAYOUT_ROWS   rows one after another, nothing padded. Channels: {bias, multiplier, scale}
 *                     for each row.
 *   NST_LAYOUT_MVE    runs padded with zeros to 16 taps, rows to a multiple of 4. Four rows at a
 *                     time: 16 taps of row 0, of row 1, 2, 3, then the next 16 taps of row 0.
 *                     Channels: bias[4], multiplier[4], scale[4] for each four rows.
 *   NST_LAYOUT_DSP    rows in one piece (one run), padded with zeros to 4 taps and to an even
 *                     number of rows. Two rows a and b at a time; 4 taps of both are the bytes a0
 *                     b0 a2 b2, a1 b1 a3 b3, those of a with their sign bit turned over (a + 128 as
 *                     an unsigned byte): a halfword is 256 * b + (a + 128). Channels as in ROWS. No
 *                     accumulator reaches 2^30, whatever the input, and a second multiplier is
 *                     below 2^30.
 *
 * Depthwise: one weight for each tap and output channel.
 *   NST_LAYOUT_ROWS   [tap][channel], nothing padded. Channels as above.
 *   NST_LAYOUT_MVE    16 channels at a time, padded with zeros: [tap][16]. Channels: bias[16],
 *                     multiplier[16], scale[16] for each sixteen, in the order 0 4 8 12, 2 6 10 14,
 *                     1 5 9 13, 3 7 11 15. Of taps 2i and 2i + 1 of a channel not both are -128.
 *   NST_LAYOUT_DSP    as NST_LAYOUT_ROWS, with the bounds of NST_LAYOUT_DSP above.
 */
#ifndef NESTLING_MICRO_KERNELS_LAYOUT_H
#define NESTLING_MICRO_KERNELS_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "micro/kernels/variant.h"

typedef enum nst_layout {
    NST_LAYOUT_ROWS = 0,
    NST_LAYOUT_MVE = 1,
    NST_LAYOUT_DSP = 2,
    NST_LAYOUT_COUNT,
} nst_layout;

/* Whether this build reads a layout: one with vectors has no use for that of the DSP extension. */
static inline bool nst_layout_is_known(uint32_t layout) {
    return layout < NST_LAYOUT_COUNT && (!NST_MVE || layout != NST_LAYOUT_DSP);
}

static inline bool nst_layout_is_dsp(uint32_t layout) {
    return !NST_MVE && layout == NST_LAYOUT_DSP;
}

/* What one output channel needs to become an int8. */
typedef struct nst_channel {
    int32_t bias;
    int32_t multiplier;
    int32_t scale; /* shift or second multiplier, see requantize.h */
} nst_channel;

/* A matrix of weights: rows of runs * run_bytes taps. */
typedef struct nst_matrix {
    nst_layout layout;
    uint32_t rows;
    uint32_t runs;
    uint32_t run_bytes;
} nst_matrix;

static inline uint64_t nst_round_up(uint64_t value, uint32_t multiple) {
    /* A power of two, so that no processor has to divide. */
    return (value + multiple - 1) & ~(uint64_t)(multiple - 1);
}

/* Bytes between the starts of two runs in a row of `layout`, as the kernels count taps. */
static inline uint64_t nst_padded_run_bytes(nst_layout layout, uint64_t run_bytes) {
    return layout == NST_LAYOUT_MVE   ? nst_round_up(run_bytes, 16)
           : layout == NST_LAYOUT_DSP ? nst_round_up(run_bytes, 4)
                                      : run_bytes;
}

/* Bytes of a whole matrix; rows, runs and run_bytes below 2^20 and their product below 2^40. */
static inline uint64_t nst_matrix_bytes(nst_matrix matrix) {
    uint64_t rows = matrix.layout == NST_LAYOUT_MVE   ? nst_round_up(matrix.rows, 4)
                    : matrix.layout == NST_LAYOUT_DSP ? nst_round_up(matrix.rows, 2)
                                                      : matrix.rows;
    return rows * matrix.runs * nst_padded_run_bytes(matrix.layout, matrix.run_bytes);
}

/* Bytes of the table of channels that belongs to `rows` rows of a matrix. */
static inline uint64_t nst_matrix_channels_bytes(nst_layout layout, uint64_t rows) {
    return (layout == NST_LAYOUT_MVE ? nst_round_up(rows, 4) : rows) * sizeof(nst_channel);
}

/* Channel number `row` of a matrix's table. */
static inline nst_channel nst_matrix_channel(nst_layout layout, const int32_t *channels,
                                             uint32_t row) {
    if (layout == NST_LAYOUT_MVE) {
        const int32_t *four = channels + row / 4 * 12 + row % 4;
        return (nst_channel){four[0], four[4], four[8]};
    }
    const int32_t *one = channels + row * 3;
    return (nst_channel){one[0], one[1], one[2]};
}

/* One weight of a matrix in NST_LAYOUT_DSP. */
static inline int32_t nst_matrix_dsp_weight(nst_matrix matrix, const int8_t *weights, uint32_t row,
                                            uint32_t run, uint32_t tap) {
    static const uint8_t place[4] = {0, 4, 2, 6}; /* of taps 0, 1, 2, 3 modulo 4 */
    uint32_t run_fours = (matrix.run_bytes + 3) / 4;
    uint32_t four = (row / 2 * matrix.runs + run) * run_fours + tap / 4;
    uint8_t byte = (uint8_t)weights[four * 8 + place[tap % 4] + row % 2];
    return row % 2 == 0 ? byte - 128 : (int8_t)byte;
}

/* Where tap `tap` of run `run` of row `row` lies; *count is lowered to the taps that follow
 * without a gap. Not for NST_LAYOUT_DSP, whose weights are not plain bytes. */
static inline const int8_t *nst_matrix_taps(nst_matrix matrix, const int8_t *weights, uint32_t row,
                                            uint32_t run, uint32_t tap, uint32_t *count) {
    if (matrix.layout == NST_LAYOUT_MVE) {
        uint32_t run_vectors = (matrix.run_bytes + 15) / 16;
        uint32_t vector = (row / 4 * matrix.runs + run) * run_vectors + tap / 16;
        uint32_t left = 16 - tap % 16;
        *count = *count < left ? *count : left;
        return weights + vector * 64 + row % 4 * 16 + tap % 16;
    }
    return weights + (row * matrix.runs + run) * matrix.run_bytes + tap;
}

/* Sum of input[i] * weight[i], modulo 2^32. */
static inline uint32_t nst_dot(const int8_t *input, const int8_t *weights, uint32_t count) {
    uint32_t sum = 0;
    for (uint32_t i = 0; i < count; ++i) {
        sum += (uint32_t)(input[i] * weights[i]);
    }
    return sum;
}

/* Sum of input[i] * weight[i] over `count` taps from tap `tap` of a run on, modulo 2^32. */
static inline uint32_t nst_matrix_dot(nst_matrix matrix, const int8_t *weights, uint32_t row,
                                      uint32_t run, uint32_t tap, const int8_t *input,
                                      uint32_t count) {
    uint32_t sum = 0;
    if (matrix.layout == NST_LAYOUT_DSP) {
        for (uint32_t i = 0; i < count; ++i) {
            sum += (uint32_t)(input[i] * nst_matrix_dsp_weight(matrix, weights, row, run, tap + i));
        }
        return sum;
    }
    while (count > 0) {
        uint32_t here = count;
        const int8_t *taps = nst_matrix_taps(matrix, weights, row, run, tap, &here);
        sum += nst_dot(input, taps, here);
        input += here;
        tap += here;
        count -= here;
    }
    return sum;
}

/* Sum of `count` weights from tap `tap` of a run on, modulo 2^32. */
static inline uint32_t nst_matrix_sum(nst_matrix matrix, const int8_t *weights, uint32_t row,
                                      uint32_t run, uint32_t tap, uint32_t count) {
    uint32_t sum = 0;
    if (matrix.layout == NST_LAYOUT_DSP) {
        for (uint32_t i = 0; i < count; ++i) {
            sum += (uint32_t)nst_matrix_dsp_weight(matrix, weights, row, run, tap + i);
        }
        return sum;
    }
    while (count > 0) {
        uint32_t here = count;
        const int8_t *taps = nst_matrix_taps(matrix, weights, row, run, tap, &here);
        for (uint32_t i = 0; i < here; ++i) {
            sum += (uint32_t)(int32_t)taps[i];
        }
        tap += here;
        count -= here;
    }
    return sum;
}

/* Bytes of depthwise weights; taps * channels below 2^32. */
static inline uint64_t nst_depthwise_weights_bytes(nst_layout layout, uint32_t taps,
                                                   uint32_t channels) {
    return taps * (layout == NST_LAYOUT_MVE ? nst_round_up(channels, 16) : channels);
}

static inline uint64_t nst_depthwise_channels_bytes(nst_layout layout, uint32_t channels) {
    return (layout == NST_LAYOUT_MVE ? nst_round_up(channels, 16) : channels) * sizeof(nst_channel);
}

/* The weight of a channel's first tap; the next taps follow at *out_step bytes. */
static inline const int8_t *nst_depthwise_taps(nst_layout layout, const int8_t *weights,
                                               uint32_t taps, uint32_t channels, uint32_t channel,
                                               uint32_t *out_step) {
    *out_step = layout == NST_LAYOUT_MVE ? 16 : channels;
    return layout == NST_LAYOUT_MVE ? weights + channel / 16 * taps * 16 + channel % 16
                                    : weights + channel;
}

static inline nst_channel nst_depthwise_channel(nst_layout layout, const int32_t *channels,
                                                uint32_t channel) {
    if (layout == NST_LAYOUT_MVE) {
        static const uint8_t group[4] = {0, 8, 4, 12}; /* of channels 0, 1, 2, 3 modulo 4 */
        const int32_t *sixteen =
            channels + channel / 16 * 48 + group[channel % 4] + channel % 16 / 4;
        return (nst_channel){sixteen[0], sixteen[16], sixteen[32]};
    }
    const int32_t *one = channels + channel * 3;
    return (nst_channel){one[0], one[1], one[2]};
}

#endif
