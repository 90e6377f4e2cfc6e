#include "micro/kernels/depthwise.h"

#include "micro/kernels/check.h"
#include "micro/kernels/depthwise_dsp.h"
#include "micro/kernels/depthwise_mve.h"
#include "micro/kernels/requantize.h"
#include "micro/kernels/taps.h"
#include "micro/kernels/variant.h"

static uint64_t scratch_need(const nst_depthwise_params *p) {
    if (nst_layout_is_dsp(p->layout)) {
        return nst_dsp_lines_bytes(p);
    }
    if (p->layout != NST_LAYOUT_MVE || p->channel_multiplier != 1) {
        return 0;
    }
    const uint64_t taps = (uint64_t)p->kernel_height * p->kernel_width;
    return nst_round_up(p->input_channels, 16) +
           (nst_depthwise_is_widened(p) ? NST_DEPTHWISE_WIDE_BYTES : taps * sizeof(uint32_t));
}

static bool check(const void *params, const uint32_t *tensor_bytes, uint32_t scratch_bytes) {
    const nst_depthwise_params *p = params;
    const uint32_t input[4] = {p->batches, p->input_height, p->input_width, p->input_channels};
    const uint32_t output[5] = {p->batches, p->output_height, p->output_width, p->input_channels,
                                p->channel_multiplier};
    const uint32_t weights[4] = {p->kernel_height, p->kernel_width, p->input_channels,
                                 p->channel_multiplier};
    if (!nst_fits(input, 4, tensor_bytes[0]) || !nst_fits(output, 5, tensor_bytes[3]) ||
        !nst_fits(weights, 4, tensor_bytes[1]) || !nst_layout_is_known(p->layout)) {
        return false;
    }
    const uint32_t taps = p->kernel_height * p->kernel_width;
    const uint32_t channels = p->input_channels * p->channel_multiplier;
    return nst_taps_ok(p->input_height, p->output_height, p->kernel_height, p->stride_height,
                       p->pad_height, p->dilation_height) &&
           nst_taps_ok(p->input_width, p->output_width, p->kernel_width, p->stride_width,
                       p->pad_width, p->dilation_width) &&
           nst_depthwise_weights_bytes((nst_layout)p->layout, taps, channels) <= tensor_bytes[1] &&
           nst_depthwise_channels_bytes((nst_layout)p->layout, channels) <= tensor_bytes[2] &&
           scratch_need(p) <= scratch_bytes && nst_is_int8(p->input_zero_point) &&
           nst_is_int8(p->output_zero_point) &&
           nst_are_bounds(p->activation_min, p->activation_max);
}

static uint32_t scratch_bytes(const void *params) {
    return (uint32_t)scratch_need(params);
}

const nst_operator nst_operator_depthwise = {
    .name = "quantized_depthwise_conv2d",
    .params_bytes = sizeof(nst_depthwise_params),
    .tensors = 4,
    .check = check,
    .scratch_bytes = scratch_bytes,
    .run = nst_depthwise_run,
};

/* The window of one position: kernel rows [ys] and columns [xs] lie in the image. */
typedef struct window {
    nst_tap_range ys;
    nst_tap_range xs;
} window;

/* The weights of one channel: tap i at first[i * step]. */
typedef struct plane {
    const int8_t *first;
    uint32_t step;
} plane;

/* Taps that lie in the image, the first of them at `pixel`. */
static uint32_t sum_inside(const nst_depthwise_params *p, const window *w, plane weights,
                           const int8_t *pixel) {
    const uint32_t line_bytes = p->dilation_height * p->input_width * p->input_channels;
    const uint32_t pixel_bytes = p->dilation_width * p->input_channels;
    uint32_t sum = 0;
    for (uint32_t ky = w->ys.begin; ky < w->ys.end; ++ky, pixel += line_bytes) {
        const int8_t *weight = weights.first + (ky * p->kernel_width + w->xs.begin) * weights.step;
        const int8_t *at = pixel;
        for (uint32_t left = w->xs.end - w->xs.begin; left > 0; --left) {
            sum += (uint32_t)(*at * *weight);
            at += pixel_bytes;
            weight += weights.step;
        }
    }
    return sum;
}

/* The weights of taps that do not. */
static uint32_t sum_outside(const nst_depthwise_params *p, const window *w, plane weights) {
    uint32_t sum = 0;
    for (uint32_t ky = 0; ky < p->kernel_height; ++ky) {
        for (uint32_t kx = 0; kx < p->kernel_width; ++kx) {
            if (ky < w->ys.begin || ky >= w->ys.end || kx < w->xs.begin || kx >= w->xs.end) {
                const int8_t weight = weights.first[(ky * p->kernel_width + kx) * weights.step];
                sum += (uint32_t)(int32_t)weight;
            }
        }
    }
    return sum;
}

/* One output position: all channels. `pixel`: the first tap that lies in the image, if any does. */
static void run_position(const nst_depthwise_params *p, const window *w, const int8_t *pixel,
                         const int8_t *weights, const int32_t *channels, int8_t *output) {
    const nst_layout layout = (nst_layout)p->layout;
    const uint32_t taps = p->kernel_height * p->kernel_width;
    const uint32_t count = p->input_channels * p->channel_multiplier;
    const bool some = w->ys.begin < w->ys.end && w->xs.begin < w->xs.end;
    const bool all = w->ys.begin == 0 && w->ys.end == p->kernel_height && w->xs.begin == 0 &&
                     w->xs.end == p->kernel_width;
    for (uint32_t c = 0, copies = 0; c < count; ++c) {
        plane own;
        own.first = nst_depthwise_taps(layout, weights, taps, count, c, &own.step);
        const nst_channel channel = nst_depthwise_channel(layout, channels, c);
        uint32_t sum = (uint32_t)channel.bias;
        if (some) {
            sum += sum_inside(p, w, own, pixel);
        }
        if (!all) {
            sum += (uint32_t)p->input_zero_point * sum_outside(p, w, own);
        }
        const int32_t value =
            nst_rescale((int32_t)sum, (nst_scaling)p->scaling, channel.multiplier, channel.scale);
        output[c] = nst_to_int8(value, p->output_zero_point, p->activation_min, p->activation_max);
        if (++copies == p->channel_multiplier) {
            copies = 0;
            ++pixel;
        }
    }
}

void nst_depthwise_portable(const void *params, void *const *tensors, void *scratch) {
    (void)scratch;
    /* A copy, which no write to the output can change. */
    const nst_depthwise_params copy = *(const nst_depthwise_params *)params;
    const nst_depthwise_params *p = &copy;
    const int8_t *image = tensors[0];
    int8_t *output = tensors[3];
    for (uint32_t batch = 0; batch < p->batches; ++batch) {
        for (uint32_t i = 0; i < p->output_height; ++i) {
            const int32_t top = (int32_t)(i * p->stride_height) - (int32_t)p->pad_height;
            window w;
            w.ys = nst_taps_inside(top, p->input_height, p->kernel_height, p->dilation_height);
            for (uint32_t j = 0; j < p->output_width; ++j) {
                const int32_t left = (int32_t)(j * p->stride_width) - (int32_t)p->pad_width;
                w.xs = nst_taps_inside(left, p->input_width, p->kernel_width, p->dilation_width);
                const int32_t y = top + (int32_t)(w.ys.begin * p->dilation_height);
                const int32_t x = left + (int32_t)(w.xs.begin * p->dilation_width);
                const bool some = w.ys.begin < w.ys.end && w.xs.begin < w.xs.end;
                const uint32_t pixel =
                    some ? ((uint32_t)y * p->input_width + (uint32_t)x) * p->input_channels : 0;
                run_position(p, &w, image + pixel, tensors[1], tensors[2], output);
                output += p->input_channels * p->channel_multiplier;
            }
        }
        image += p->input_height * p->input_width * p->input_channels;
    }
}

#if !NST_MVE && !NST_DSP

void nst_depthwise_run(const void *params, void *const *tensors, void *scratch) {
    nst_depthwise_portable(params, tensors, scratch);
}

#endif
