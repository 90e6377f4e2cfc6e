/* depthwise on MVE: each position is a list of pointers to its taps; taps in the padding point
 * at a pixel of zero points. */
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

static void run_any_image(const image *in, int8_t *output) {
    const nst_depthwise_params *p = in->p;
    for (uint32_t i = 0; i < p->output_height; ++i) {
        const int32_t top = (int32_t)(i * p->stride_height) - (int32_t)p->pad_height;
        for (uint32_t j = 0; j < p->output_width; ++j) {
            run_any(in, top, (int32_t)(j * p->stride_width) - (int32_t)p->pad_width, output);
            output += p->input_channels;
        }
    }
}

/* A row of a 3 x 3 kernel: one strip of the columns whose taps all lie inside, one for each
 * other column. */
#define MOST_STRIPS 5u

typedef struct row {
    nst_depthwise_strip strips[MOST_STRIPS];
    uint32_t count;
} row;

/* The strip that begins with `column`, for the row of output whose first taps lie at `top`. */
static void place(const image *in, nst_depthwise_strip *strip, int32_t top, uint32_t column,
                  uint32_t positions, int8_t *output) {
    const nst_depthwise_params *p = in->p;
    const int32_t left = (int32_t)(column * p->stride_width) - (int32_t)p->pad_width;
    const uint32_t moved = (uint32_t)nst_round_up(p->input_channels, 16);
    const uint32_t down = p->stride_height * p->input_width * p->input_channels;
    strip->positions = positions;
    strip->output = output;
    strip->steps_any = 0;
    for (uint32_t ky = 0; ky < 3; ++ky) {
        const int32_t y = top + (int32_t)(ky * p->dilation_height);
        for (uint32_t kx = 0; kx < 3; ++kx) {
            const int8_t *tap = tap_at(in, y, left + (int32_t)(kx * p->dilation_width));
            strip->taps[3 * ky + kx] = tap;
            strip->down[3 * ky + kx] = tap == in->padding ? 0 : down;
        }
        const bool inside = (uint32_t)y < p->input_height;
        strip->steps[ky] = (inside ? p->stride_width * p->input_channels : 0) - moved;
        strip->steps_any |= positions > 1 ? strip->steps[ky] : 0;
    }
}

/* From one row of output to the next, where all rows of taps lie inside before and after. */
static void move_down(const nst_depthwise_params *p, row *r) {
    for (nst_depthwise_strip *strip = r->strips; strip < r->strips + r->count; ++strip) {
        for (uint32_t i = 0; i < 9; ++i) {
            strip->taps[i] += strip->down[i];
        }
        strip->output += p->output_width * p->input_channels;
    }
}

/* Output columns [begin, end) have all their taps inside. Returns false where too many have not. */
static bool run_3x3_image(const image *in, uint32_t begin, uint32_t end, int8_t *output) {
    const nst_depthwise_params *p = in->p;
    const uint32_t inside = begin < end ? end - begin : 0;
    if (p->output_width - inside >= MOST_STRIPS) {
        return false;
    }
    row r = {.count = 0};
    bool was_inside = false;
    for (uint32_t i = 0; i < p->output_height; ++i) {
        const int32_t top = (int32_t)(i * p->stride_height) - (int32_t)p->pad_height;
        const bool is_inside =
            top >= 0 && top + 2 * (int32_t)p->dilation_height < (int32_t)p->input_height;
        if (was_inside && is_inside) {
            move_down(p, &r);
        } else {
            r.count = 0;
            for (uint32_t column = 0; column < p->output_width;) {
                const uint32_t positions = column == begin && inside > 0 ? inside : 1;
                place(in, &r.strips[r.count++], top, column, positions,
                      output + column * p->input_channels);
                column += positions;
            }
        }
        was_inside = is_inside;
        nst_depthwise_mve_3x3(in->job, r.strips, r.count);
        output += p->output_width * p->input_channels;
    }
    return true;
}

static void run_image(const image *in, int8_t *output) {
    const nst_depthwise_params *p = in->p;
    /* Columns of output whose taps all lie inside. */
    const uint32_t reach = (p->kernel_width - 1) * p->dilation_width + 1;
    const uint32_t room = p->input_width + p->pad_width;
    const uint32_t begin = (p->pad_width + p->stride_width - 1) / p->stride_width;
    uint32_t end = room < reach ? 0 : (room - reach) / p->stride_width + 1;
    end = end < p->output_width ? end : p->output_width;
    if (p->kernel_height != 3 || p->kernel_width != 3 || !run_3x3_image(in, begin, end, output)) {
        run_any_image(in, output);
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
