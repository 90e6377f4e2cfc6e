/* depthwise on MVE: each position is a list of pointers to its taps; taps in the padding point at a pixel of zero points. */
#include "micro/kernels/depthwise_mve.h"

#include "micro/kernels/depthwise.h"
#include "micro/kernels/variant.h"

#if NST_MVE

#include "micro/kernels/copy_mve.h"

/* One image, and where its padding lies. */
typedef struct image {
    const nst_depthwise_params *p;
    const nst_depthwise_job *job;
    const int8_t *first;   /* pixel (0, 0) */
    const int8_t *padding; /* a pixel of zero points */
    const int8_t **taps;   /* scratch: one for each tap */
} image;

/* The pixel of a tap, or the padding. */
static inline const int8_t *tap_at(const image *in, int32_t y, int32_t x) {
    const nst_depthwise_params *p = in->p;
    /* One comparison each: a negative number is a large unsigned one. */
    if ((uint32_t)y >= p->input_height || (uint32_t)x >= p->input_width) {
        return in->padding;
    }
    return in->first + ((uint32_t)y * p->input_width + (uint32_t)x) * p->input_channels;
}

static void run_any(const image *in, int32_t top, int32_t left, int8_t *output) {
    const nst_depthwise_params *p = in->p;
    uint32_t count = 0;
    for (uint32_t ky = 0; ky < p->kernel_height; ++ky) {
        for (uint32_t kx = 0; kx < p->kernel_width; ++kx) {
            in->taps[count++] = tap_at(in, top + (int32_t)(ky * p->dilation_height),
                                       left + (int32_t)(kx * p->dilation_width));
        }
    }
    nst_depthwise_mve_any(in->job, in->taps, count, output);
}

/* `positions` along a row, whose columns of taps all lie inside or, for one position, anywhere. */
static void run_3x3(const image *in, int32_t top, int32_t left, uint32_t positions,
                    int8_t *output) {
    const nst_depthwise_params *p = in->p;
    nst_depthwise_strip strip = {.positions = positions, .output = output};
    for (uint32_t ky = 0; ky < 3; ++ky) {
        const int32_t y = top + (int32_t)(ky * p->dilation_height);
        const int32_t dx = (int32_t)p->dilation_width;
        strip.taps[3 * ky] = tap_at(in, y, left);
        strip.taps[3 * ky + 1] = tap_at(in, y, left + dx);
        strip.taps[3 * ky + 2] = tap_at(in, y, left + 2 * dx);
        strip.steps[ky] = (uint32_t)y < p->input_height ? p->stride_width * p->input_channels : 0;
    }
    nst_depthwise_mve_3x3(in->job, &strip);
}

static void run_row_3x3(const image *in, int32_t top, uint32_t begin, uint32_t end,
                        int8_t *output) {
    const nst_depthwise_params *p = in->p;
    for (uint32_t column = 0; column < p->output_width;) {
        const uint32_t positions = column == begin && begin < end ? end - begin : 1;
        run_3x3(in, top, (int32_t)(column * p->stride_width) - (int32_t)p->pad_width, positions,
                output);
        output += positions * p->input_channels;
        column += positions;
    }
}

static void run_image(const image *in, int8_t *output) {
    const nst_depthwise_params *p = in->p;
    const bool is_3x3 = p->kernel_height == 3 && p->kernel_width == 3;
    /* Columns of output whose taps all lie inside. */
    const uint32_t reach = (p->kernel_width - 1) * p->dilation_width + 1;
    const uint32_t room = p->input_width + p->pad_width;
    const uint32_t begin = (p->pad_width + p->stride_width - 1) / p->stride_width;
    uint32_t end = room < reach ? 0 : (room - reach) / p->stride_width + 1;
    end = end < p->output_width ? end : p->output_width;
    for (uint32_t row = 0; row < p->output_height; ++row) {
        const int32_t top = (int32_t)(row * p->stride_height) - (int32_t)p->pad_height;
        if (is_3x3) {
            run_row_3x3(in, top, begin, end, output);
        } else {
            for (uint32_t column = 0; column < p->output_width; ++column) {
                run_any(in, top, (int32_t)(column * p->stride_width) - (int32_t)p->pad_width,
                        output + column * p->input_channels);
            }
        }
        output += p->output_width * p->input_channels;
    }
}

void nst_depthwise_run(const void *params, void *const *tensors, void *scratch) {
    const nst_depthwise_params *p = params;
    if (p->layout != NST_LAYOUT_MVE || p->channel_multiplier != 1) {
        nst_depthwise_portable(params, tensors, scratch);
        return;
    }
    const nst_depthwise_job job = {
        .weights = tensors[1],
        .channels = tensors[2],
        .blocks = p->input_channels / 16,
        .tail = p->input_channels % 16,
        .zero_point = p->output_zero_point,
        .low = p->activation_min,
        .high = p->activation_max,
        .scaling = p->scaling,
    };
    const uint32_t pixel_bytes = (uint32_t)nst_round_up(p->input_channels, 16);
    int8_t *padding = scratch;
    nst_fill_mve(padding, p->input_zero_point, pixel_bytes);
    image in = {
        .p = p,
        .job = &job,
        .first = tensors[0],
        .padding = padding,
        .taps = (const int8_t **)(void *)(padding + pixel_bytes),
    };
    int8_t *output = tensors[3];
    for (uint32_t batch = 0; batch < p->batches; ++batch) {
        run_image(&in, output);
        in.first += p->input_height * p->input_width * p->input_channels;
        output += p->output_height * p->output_width * p->input_channels;
    }
}

#endif
