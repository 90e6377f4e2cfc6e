#include "micro/kernels/conv2d.h"

#include "micro/kernels/check.h"
#include "micro/kernels/conv2d_packed_mve.h"
#include "micro/kernels/matmul_mve.h"
#include "micro/kernels/requantize.h"
#include "micro/kernels/rows_dsp.h"
#include "micro/kernels/taps.h"
#include "micro/kernels/variant.h"

static uint64_t scratch_need(const nst_conv2d_params *p) {
    const nst_matrix matrix = nst_conv2d_matrix(p);
    const uint64_t run_bytes = nst_padded_run_bytes(matrix.layout, matrix.run_bytes);
    if (nst_conv2d_is_packed(p)) {
        return nst_conv2d_packed_scratch_bytes(p);
    }
    if (p->layout == NST_LAYOUT_MVE) {
        return 2 * matrix.runs * run_bytes;
    }
    if (!nst_layout_is_dsp(p->layout) || p->runs != 1) {
        return 0;
    }
    const bool gathers = p->input_channels / p->groups % 4 != 0;
    return nst_dsp_columns_bytes(3, run_bytes) + (gathers ? run_bytes : 0);
}

static bool check(const void *params, const uint32_t *tensor_bytes, uint32_t scratch_bytes) {
    const nst_conv2d_params *p = params;
    const uint32_t input[4] = {p->batches, p->input_height, p->input_width, p->input_channels};
    const uint32_t output[4] = {p->batches, p->output_height, p->output_width, p->output_channels};
    if (!nst_fits(input, 4, tensor_bytes[0]) || !nst_fits(output, 4, tensor_bytes[3]) ||
        !nst_taps_ok(p->input_height, p->output_height, p->kernel_height, p->stride_height,
                     p->pad_height, p->dilation_height) ||
        !nst_taps_ok(p->input_width, p->output_width, p->kernel_width, p->stride_width,
                     p->pad_width, p->dilation_width) ||
        p->groups == 0 || p->input_channels % p->groups != 0 ||
        p->output_channels % p->groups != 0) {
        return false;
    }
    const uint32_t weights[4] = {p->output_channels, p->kernel_height, p->kernel_width,
                                 p->input_channels / p->groups};
    if (!nst_fits(weights, 4, tensor_bytes[1]) ||
        !nst_matmul_knows(p->layout, p->output_channels) ||
        (p->runs != 1 && p->runs != p->kernel_height)) {
        return false;
    }
    const nst_matrix matrix = nst_conv2d_matrix(p);
    return p->groups * nst_matrix_bytes(matrix) <= tensor_bytes[1] &&
           p->groups * nst_matrix_channels_bytes(matrix.layout, matrix.rows) <= tensor_bytes[2] &&
           scratch_need(p) <= scratch_bytes && nst_is_int8(p->input_zero_point) &&
           nst_is_int8(p->output_zero_point) &&
           nst_are_bounds(p->activation_min, p->activation_max);
}

static uint32_t scratch_bytes(const void *params) {
    return (uint32_t)scratch_need(params);
}

const nst_operator nst_operator_conv2d = {
    .name = "quantized_conv2d",
    .params_bytes = sizeof(nst_conv2d_params),
    .tensors = 4,
    .check = check,
    .scratch_bytes = scratch_bytes,
    .run = nst_conv2d_run,
};

/* The window of one position: kernel rows [ys] and columns [xs] lie in the image. */
typedef struct window {
    nst_tap_range ys;
    nst_tap_range xs;
    int32_t top;
    int32_t left;
} window;

/* Kernel row `ky` begins at this tap of its run. */
static inline uint32_t first_tap(const nst_conv2d_params *p, uint32_t ky, uint32_t channels) {
    return p->runs == 1 ? ky * p->kernel_width * channels : 0;
}

/* Taps that lie in the image; `image` points at the group's first channel. */
static uint32_t sum_inside(const nst_conv2d_params *p, nst_matrix matrix, const window *w,
                           const int8_t *weights, uint32_t row, const int8_t *image) {
    const uint32_t channels = p->input_channels / p->groups;
    /* Neighbours in one piece are multiplied in one piece. */
    const uint32_t piece = p->dilation_width == 1 && p->groups == 1 ? w->xs.end - w->xs.begin : 1;
    uint32_t sum = 0;
    for (uint32_t ky = w->ys.begin; ky < w->ys.end; ++ky) {
        const uint32_t y = (uint32_t)(w->top + (int32_t)(ky * p->dilation_height));
        const uint32_t first = first_tap(p, ky, channels);
        for (uint32_t kx = w->xs.begin; kx < w->xs.end; kx += piece) {
            const uint32_t x = (uint32_t)(w->left + (int32_t)(kx * p->dilation_width));
            const int8_t *pixel = image + (y * p->input_width + x) * p->input_channels;
            sum += nst_matrix_dot(matrix, weights, row, p->runs == 1 ? 0 : ky,
                                  first + kx * channels, pixel, piece * channels);
        }
    }
    return sum;
}

/* The weights of taps that do not. */
static uint32_t sum_outside(const nst_conv2d_params *p, nst_matrix matrix, const window *w,
                            const int8_t *weights, uint32_t row) {
    const uint32_t channels = p->input_channels / p->groups;
    uint32_t sum = 0;
    for (uint32_t ky = 0; ky < p->kernel_height; ++ky) {
        const bool inside = ky >= w->ys.begin && ky < w->ys.end;
        const uint32_t run = p->runs == 1 ? 0 : ky;
        const uint32_t first = first_tap(p, ky, channels);
        const uint32_t begin = inside ? w->xs.begin : p->kernel_width;
        const uint32_t end = inside ? w->xs.end : p->kernel_width;
        sum += nst_matrix_sum(matrix, weights, row, run, first, begin * channels);
        sum += nst_matrix_sum(matrix, weights, row, run, first + end * channels,
                              (p->kernel_width - end) * channels);
    }
    return sum;
}

/* One group of output channels at one position. */
static void run_position(const nst_conv2d_params *p, nst_matrix matrix, const window *w,
                         const int8_t *image, const int8_t *weights, const int32_t *channels,
                         int8_t *output) {
    const bool whole = w->ys.begin == 0 && w->ys.end == p->kernel_height && w->xs.begin == 0 &&
                       w->xs.end == p->kernel_width;
    for (uint32_t row = 0; row < matrix.rows; ++row) {
        const nst_channel channel = nst_matrix_channel(matrix.layout, channels, row);
        uint32_t sum = (uint32_t)channel.bias + sum_inside(p, matrix, w, weights, row, image);
        if (!whole) {
            sum += (uint32_t)p->input_zero_point * sum_outside(p, matrix, w, weights, row);
        }
        const int32_t value =
            nst_rescale((int32_t)sum, (nst_scaling)p->scaling, channel.multiplier, channel.scale);
        output[row] =
            nst_to_int8(value, p->output_zero_point, p->activation_min, p->activation_max);
    }
}

void nst_conv2d_portable(const void *params, void *const *tensors, void *scratch) {
    (void)scratch;
    /* A copy, which no write to the output can change. */
    const nst_conv2d_params copy = *(const nst_conv2d_params *)params;
    const nst_conv2d_params *p = &copy;
    const nst_matrix matrix = nst_conv2d_matrix(p);
    const uint32_t weights_bytes = (uint32_t)nst_matrix_bytes(matrix);
    const uint32_t channel_words =
        (uint32_t)nst_matrix_channels_bytes(matrix.layout, matrix.rows) / sizeof(int32_t);
    const int8_t *image = tensors[0];
    int8_t *output = tensors[3];
    for (uint32_t batch = 0; batch < p->batches; ++batch) {
        for (uint32_t position = 0; position < p->output_height * p->output_width; ++position) {
            window w;
            w.top =
                (int32_t)(position / p->output_width * p->stride_height) - (int32_t)p->pad_height;
            w.left =
                (int32_t)(position % p->output_width * p->stride_width) - (int32_t)p->pad_width;
            w.ys = nst_taps_inside(w.top, p->input_height, p->kernel_height, p->dilation_height);
            w.xs = nst_taps_inside(w.left, p->input_width, p->kernel_width, p->dilation_width);
            for (uint32_t group = 0; group < p->groups; ++group) {
                run_position(p, matrix, &w, image + group * (p->input_channels / p->groups),
                             (const int8_t *)tensors[1] + group * weights_bytes,
                             (const int32_t *)tensors[2] + group * channel_words, output);
                output += matrix.rows;
            }
        }
        image += p->input_height * p->input_width * p->input_channels;
    }
}

#if !NST_MVE && !NST_DSP

void nst_conv2d_run(const void *params, void *const *tensors, void *scratch) {
    nst_conv2d_portable(params, tensors, scratch);
}

#endif
