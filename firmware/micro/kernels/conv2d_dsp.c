#include "micro/kernels/conv2d.h"
#include "micro/kernels/variant.h"

#if NST_DSP

#include "micro/kernels/rows_dsp.h"
#include "micro/kernels/scale_dsp.h"

/* One kernel row of one position: where its taps lie. */
typedef struct kernel_row {
    const int8_t *row; /* pixel 0 of the image's row, the group's first channel */
    int32_t left;      /* image column of the first tap */
    uint32_t channels; /* of the group */
} kernel_row;

/* Appends the taps of a kernel row that lies inside the image's height. */
static void append_row(const nst_conv2d_params *p, nst_dsp_column *column, kernel_row at) {
    const int32_t width = (int32_t)p->input_width;
    if (p->dilation_width != 1 || p->groups != 1) {
        for (uint32_t kx = 0; kx < p->kernel_width; ++kx) {
            const int32_t x = at.left + (int32_t)(kx * p->dilation_width);
            if (x >= 0 && x < width) {
                nst_dsp_append(column, at.row + (uint32_t)x * p->input_channels, at.channels);
            } else {
                nst_dsp_append_value(column, (int8_t)p->input_zero_point, at.channels);
            }
        }
        return;
    }
    const int32_t right = at.left + (int32_t)p->kernel_width;
    const int32_t first = at.left < 0 ? (right < 0 ? right : 0) : at.left;
    const int32_t end = right > width ? (at.left > width ? at.left : width) : right;
    if (first > at.left) {
        nst_dsp_append_value(column, (int8_t)p->input_zero_point,
                             (uint32_t)(first - at.left) * at.channels);
    }
    if (end > first) {
        nst_dsp_append(column, at.row + (uint32_t)first * at.channels,
                       (uint32_t)(end - first) * at.channels);
    }
    if (right > end) {
        nst_dsp_append_value(column, (int8_t)p->input_zero_point,
                             (uint32_t)(right - end) * at.channels);
    }
}

/* Fills a column from a group of channels that is a multiple of 4. */
static void fill_column(const nst_conv2d_params *p, nst_dsp_column *column, const int8_t *image,
                        int32_t top, int32_t left) {
    const uint32_t channels = p->input_channels / p->groups;
    for (uint32_t ky = 0; ky < p->kernel_height; ++ky) {
        const int32_t y = top + (int32_t)(ky * p->dilation_height);
        if (y >= 0 && y < (int32_t)p->input_height) {
            append_row(p, column,
                       (kernel_row){image + (uint32_t)y * p->input_width * p->input_channels, left,
                                    channels});
        } else {
            nst_dsp_append_value(column, (int8_t)p->input_zero_point, p->kernel_width * channels);
        }
    }
}

/* The same for any number of channels: gathers the taps as bytes first. */
static void gather_column(const nst_conv2d_params *p, nst_dsp_column *column, const int8_t *image,
                          int32_t top, int32_t left, int8_t *taps) {
    const uint32_t channels = p->input_channels / p->groups;
    int8_t *next = taps;
    for (uint32_t ky = 0; ky < p->kernel_height; ++ky) {
        const int32_t y = top + (int32_t)(ky * p->dilation_height);
        const bool inside = y >= 0 && y < (int32_t)p->input_height;
        for (uint32_t kx = 0; kx < p->kernel_width; ++kx) {
            const int32_t x = left + (int32_t)(kx * p->dilation_width);
            const bool here = inside && x >= 0 && x < (int32_t)p->input_width;
            const int8_t *pixel =
                here ? image + ((uint32_t)y * p->input_width + (uint32_t)x) * p->input_channels
                     : NULL;
            for (uint32_t c = 0; c < channels; ++c) {
                *next++ = here ? pixel[c] : (int8_t)p->input_zero_point;
            }
        }
    }
    nst_dsp_append(column, taps, (uint32_t)(next - taps));
}

/* One group of channels of one image; `image` and `output` point at the group's first channel. */
static void run_group(const nst_conv2d_params *p, const nst_dsp_rows *rows, const int8_t *image,
                      int8_t *output, uint32_t *columns, int8_t *taps) {
    const bool whole_words = p->input_channels / p->groups % 4 == 0;
    const int32_t first_left = -(int32_t)p->pad_width;
    int32_t top = -(int32_t)p->pad_height;
    int32_t left = first_left;
    uint32_t x = 0;
    for (uint32_t todo = p->output_height * p->output_width; todo > 0;) {
        const uint32_t count = todo >= 3 ? 3 : 1;
        for (uint32_t i = 0; i < count; ++i) {
            nst_dsp_column column = nst_dsp_begin_column(columns, count, i);
            if (whole_words) {
                fill_column(p, &column, image, top, left);
            } else {
                gather_column(p, &column, image, top, left, taps);
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
            run_group(p, &rows, image + group * (p->input_channels / p->groups),
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
