#include "micro/kernels/conv2d.h"
#include "micro/kernels/variant.h"

#if NST_DSP

#include "micro/kernels/rows_dsp.h"
#include "micro/kernels/scale_dsp.h"
#include "micro/kernels/taps.h"

/* What does not change from position to position. */
typedef struct geometry {
    const nst_conv2d_params *params;
    uint32_t channels;    /* of a group */
    uint32_t line_bytes;  /* from a kernel row's line of the image to the next one's */
    uint32_t pixel_bytes; /* from a tap's pixel to the next one's */
    int32_t last_top;     /* a window that begins in [0, last] is all inside */
    int32_t last_left;
    bool joined; /* the taps of a kernel row lie in one piece */
} geometry;

static geometry geometry_of(const nst_conv2d_params *p) {
    return (geometry){
        .params = p,
        .channels = p->input_channels / p->groups,
        .line_bytes = p->dilation_height * p->input_width * p->input_channels,
        .pixel_bytes = p->dilation_width * p->input_channels,
        .last_top =
            (int32_t)p->input_height - 1 - (int32_t)((p->kernel_height - 1) * p->dilation_height),
        .last_left =
            (int32_t)p->input_width - 1 - (int32_t)((p->kernel_width - 1) * p->dilation_width),
        .joined = p->dilation_width == 1 && p->groups == 1,
    };
}

/* A window: where it begins, and which of its taps lie in the image. */
typedef struct window {
    int32_t top;
    int32_t left;
    nst_tap_range ys;
    nst_tap_range xs;
} window;

static window window_at(const geometry *g, int32_t top, int32_t left) {
    const nst_conv2d_params *p = g->params;
    window at = {top, left, {0, p->kernel_height}, {0, p->kernel_width}};
    if (top < 0 || top > g->last_top) {
        at.ys = nst_taps_inside(top, p->input_height, p->kernel_height, p->dilation_height);
    }
    if (left < 0 || left > g->last_left) {
        at.xs = nst_taps_inside(left, p->input_width, p->kernel_width, p->dilation_width);
    }
    return at;
}

/* Pixel of a tap that lies inside. */
static const int8_t *pixel_at(const geometry *g, const int8_t *image, const window *at, uint32_t ky,
                              uint32_t kx) {
    const nst_conv2d_params *p = g->params;
    const uint32_t y = (uint32_t)at->top + ky * p->dilation_height;
    const uint32_t x = (uint32_t)at->left + kx * p->dilation_width;
    return image + (y * p->input_width + x) * p->input_channels;
}

/* Appends taps that lie in the padding. */
static inline void append_padding(const geometry *g, nst_dsp_column *column, uint32_t taps) {
    if (taps > 0) {
        nst_dsp_append_value(column, (int8_t)g->params->input_zero_point, taps * g->channels);
    }
}

/* Fills a column where a group's channels are a multiple of 4. */
static void fill_column(const geometry *g, nst_dsp_column *column, const int8_t *image,
                        const window *at) {
    const uint32_t kernel_height = g->params->kernel_height;
    const uint32_t kernel_width = g->params->kernel_width;
    const nst_tap_range ys = at->ys;
    const nst_tap_range xs = at->xs;
    const uint32_t inside = xs.end - xs.begin;
    if (ys.begin == ys.end || inside == 0) {
        append_padding(g, column, kernel_height * kernel_width);
        return;
    }
    const uint32_t pieces = g->joined ? 1 : inside;
    const uint32_t words = (g->joined ? inside * g->channels : g->channels) / 4;
    const int8_t *line = pixel_at(g, image, at, ys.begin, xs.begin);
    append_padding(g, column, ys.begin * kernel_width);
    if (inside == kernel_width && pieces == 1) {
        nst_dsp_append_rows(column, line, words, ys.end - ys.begin, g->line_bytes);
        append_padding(g, column, (kernel_height - ys.end) * kernel_width);
        return;
    }
    for (uint32_t ky = ys.begin; ky < ys.end; ++ky, line += g->line_bytes) {
        append_padding(g, column, xs.begin);
        nst_dsp_append_rows(column, line, words, pieces, g->pixel_bytes);
        append_padding(g, column, kernel_width - xs.end);
    }
    append_padding(g, column, (kernel_height - ys.end) * kernel_width);
}

/* Copies `count` taps; with `room`, up to three bytes behind them may be read and written too. */
static inline int8_t *copy_taps(int8_t *to, const int8_t *from, uint32_t count, bool room) {
    int8_t *const end = to + count;
    const uint32_t words = (room ? count + 3 : count) / 4;
    for (uint32_t i = 0; i < words; ++i, from += 4, to += 4) {
        const uint32_t word = nst_load_word(from);
        memcpy(to, &word, sizeof word);
    }
    while (to < end) {
        *to++ = *from++;
    }
    return end;
}

static int8_t *copy_padding(int8_t *to, int8_t padding, uint32_t count) {
    for (; count > 0; --count) {
        *to++ = padding;
    }
    return to;
}

/* Fills a column whatever the number of channels: gathers the taps as bytes first. `end`: of the
 * image. `taps` end in zeros up to a multiple of 4, which stay. */
static void gather_column(const geometry *g, nst_dsp_column *column, const int8_t *image,
                          const int8_t *end, const window *at, int8_t *taps) {
    const nst_conv2d_params *p = g->params;
    const int8_t padding = (int8_t)p->input_zero_point;
    const uint32_t row_bytes = p->kernel_width * g->channels;
    const nst_tap_range ys = at->ys;
    const nst_tap_range xs = at->xs;
    int8_t *next = taps;
    int8_t *const last = taps + p->kernel_height * row_bytes;
    if (ys.begin < ys.end && xs.begin < xs.end) {
        const uint32_t pieces = g->joined ? 1 : xs.end - xs.begin;
        const uint32_t piece_bytes = g->channels * (g->joined ? xs.end - xs.begin : 1);
        const int8_t *line = pixel_at(g, image, at, ys.begin, xs.begin);
        next = copy_padding(next, padding, ys.begin * row_bytes);
        for (uint32_t ky = ys.begin; ky < ys.end; ++ky, line += g->line_bytes) {
            next = copy_padding(next, padding, xs.begin * g->channels);
            const int8_t *piece = line;
            for (uint32_t i = 0; i < pieces; ++i, piece += g->pixel_bytes) {
                const bool room = (uint32_t)(last - next) >= piece_bytes + 3 &&
                                  (uint32_t)(end - piece) >= piece_bytes + 3;
                next = copy_taps(next, piece, piece_bytes, room);
            }
            next = copy_padding(next, padding, (p->kernel_width - xs.end) * g->channels);
        }
    }
    copy_padding(next, padding, (uint32_t)(last - next));
    nst_dsp_append_words(column, taps, (p->kernel_height * row_bytes + 3) / 4);
}

/* One group of channels of one image; `image` and `output` point at the group's first channel. */
static void run_group(const geometry *g, const nst_dsp_rows *rows, const int8_t *image,
                      const int8_t *end, int8_t *output, uint32_t *columns, int8_t *taps) {
    const nst_conv2d_params *p = g->params;
    const bool gathers = g->channels % 4 != 0;
    if (gathers) {
        memset(taps + rows->taps - 4, 0, 4);
    }
    const int32_t first_left = -(int32_t)p->pad_width;
    int32_t top = -(int32_t)p->pad_height;
    int32_t left = first_left;
    uint32_t x = 0;
    for (uint32_t todo = p->output_height * p->output_width; todo > 0;) {
        const uint32_t count = todo >= 3 ? 3 : 1;
        for (uint32_t i = 0; i < count; ++i) {
            const window at = window_at(g, top, left);
            nst_dsp_column column = nst_dsp_begin_column(columns, count, i);
            if (gathers) {
                gather_column(g, &column, image, end, &at, taps);
            } else {
                fill_column(g, &column, image, &at);
            }
            nst_dsp_end_column(columns, i, column);
            left += (int32_t)p->stride_width;
            if (++x == p->output_width) {
                x = 0;
                left = first_left;
                top += (int32_t)p->stride_height;
            }
        }
        if (count == 3) {
            nst_dsp_three_columns(rows, columns, output, p->output_channels);
        } else {
            nst_dsp_one_column(rows, columns, output);
        }
        output += count * p->output_channels;
        todo -= count;
    }
}

void nst_conv2d_run(const void *params, void *const *tensors, void *scratch) {
    const nst_conv2d_params *p = params;
    if (p->layout != NST_LAYOUT_DSP || p->runs != 1) {
        nst_conv2d_portable(params, tensors, scratch);
        return;
    }
    const nst_matrix matrix = nst_conv2d_matrix(p);
    const geometry g = geometry_of(p);
    nst_dsp_rows rows = {
        .rows = matrix.rows,
        .taps = (uint32_t)nst_padded_run_bytes(matrix.layout, matrix.run_bytes),
        .scaling = (nst_scaling)p->scaling,
        .zero_point = p->output_zero_point,
    };
    uint32_t *columns = scratch;
    int8_t *taps = (int8_t *)scratch + nst_dsp_columns_bytes(3, rows.taps);
    const uint32_t image_bytes = p->input_height * p->input_width * p->input_channels;
    const uint32_t output_bytes = p->output_height * p->output_width * p->output_channels;
    const int8_t *image = tensors[0];
    int8_t *output = tensors[3];
    for (uint32_t batch = 0; batch < p->batches; ++batch) {
        rows.weights = tensors[1];
        rows.channels = tensors[2];
        for (uint32_t group = 0; group < p->groups; ++group) {
            run_group(&g, &rows, image + group * g.channels, image + image_bytes,
                      output + group * matrix.rows, columns, taps);
            rows.weights += nst_matrix_bytes(matrix);
            rows.channels += matrix.rows * 3;
        }
        image += image_bytes;
        output += output_bytes;
    }
    nst_dsp_clamp(tensors[3], p->batches * output_bytes, p->activation_min, p->activation_max);
}

#endif
