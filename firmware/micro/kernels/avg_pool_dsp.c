#include "micro/kernels/avg_pool.h"
#include "micro/kernels/variant.h"

#if NST_DSP

#include "micro/kernels/avg_pool_mean.h"
#include "micro/kernels/instructions_dsp.h"

/* Values that a sum of 16 bits holds: 256 * -128 = -2^15. */
#define LARGEST_PIECE 256u

/* Sums of four neighbouring channels, `columns` pixels of one image row. */
static inline void add_row(const int8_t *value, size_t channels, uint32_t columns, uint32_t *even,
                           uint32_t *odd) {
#pragma GCC unroll 4
    for (uint32_t x = 0; x < columns; ++x, value += channels) {
        const uint32_t word = nst_load_word(value);
        *even = nst_add_even_bytes(*even, word);
        *odd = nst_add_odd_bytes(*odd, word);
    }
}

static inline void take_sums(int32_t *sums, uint32_t even, uint32_t odd) {
    sums[0] += (int16_t)even;
    sums[1] += (int16_t)odd;
    sums[2] += (int32_t)even >> 16;
    sums[3] += (int32_t)odd >> 16;
}

static void sum_window(const nst_avg_pool_window *window, const int8_t *first, int32_t *sums) {
    uint32_t even = 0;
    uint32_t odd = 0;
    uint32_t room = LARGEST_PIECE;
    sums[0] = sums[1] = sums[2] = sums[3] = 0;
    for (uint32_t y = 0; y < window->rows; ++y, first += window->row_bytes) {
        const int8_t *value = first;
        uint32_t left = window->columns;
        while (left > room) {
            add_row(value, window->channels, room, &even, &odd);
            take_sums(sums, even, odd);
            value += room * window->channels;
            left -= room;
            even = odd = 0;
            room = LARGEST_PIECE;
        }
        add_row(value, window->channels, left, &even, &odd);
        room -= left;
    }
    take_sums(sums, even, odd);
}

/* What nst_avg_pool_mean works out of a window, once for all channels. */
typedef struct window_terms {
    uint32_t divisor; /* 2 * count */
    uint32_t base;    /* dividend of a sum of 0 */
    uint32_t doubt;
    int32_t offset; /* from a quotient to the mean */
} window_terms;

static window_terms terms_of(const nst_avg_pool_params *p, const nst_avg_pool_window *window) {
    const uint32_t count = window->rows * window->columns;
    return (window_terms){
        .divisor = 2 * count,
        .base = count * (uint32_t)(513 - 2 * p->zero_point),
        .doubt = nst_avg_pool_doubt(count),
        .offset = p->zero_point - 256,
    };
}

/* Four channels of a window from `first` on. */
static void mean_of_four(const nst_avg_pool_params *p, const nst_avg_pool_window *window,
                         window_terms terms, const int8_t *first, int8_t *output) {
    int32_t sums[4];
    sum_window(window, first, sums);
    for (uint32_t i = 0; i < 4; ++i) {
        const uint32_t dividend = terms.base + 2 * (uint32_t)sums[i];
        const uint32_t quotient = dividend / terms.divisor;
        const uint32_t remainder = dividend - quotient * terms.divisor;
        const bool sure = remainder > terms.doubt && terms.divisor - remainder > terms.doubt;
        output[i] = sure ? (int8_t)((int32_t)quotient + terms.offset)
                         : nst_avg_pool_float_mean(window, first + i, p->zero_point, p->scale);
    }
}

void nst_avg_pool_run(const void *params, void *const *tensors, void *scratch) {
    const nst_avg_pool_params *p = params;
    const uint32_t channels = p->window.channels;
    if (channels < 4) {
        nst_avg_pool_portable(params, tensors, scratch);
        return;
    }
    int8_t *output = tensors[1];
    nst_avg_pool_walk walk = {0};
    do {
        const nst_avg_pool_window window = nst_avg_pool_window_at(&p->window, &walk);
        const window_terms terms = terms_of(p, &window);
        const int8_t *first = (const int8_t *)tensors[0] + window.offset;
        for (uint32_t c = 0; c < channels; c += 4) {
            /* The last four channels may overlap those before. */
            const uint32_t at = c + 4 <= channels ? c : channels - 4;
            mean_of_four(p, &window, terms, first + at, output + at);
        }
        output += channels;
    } while (nst_avg_pool_next(&p->window, &walk));
}

#endif
