/* depthwise on MVE: each position is a list of pointers to its taps; taps in the padding point
 * at a pixel of zero points. */
#include "micro/kernels/depthwise_mve.h"

#include "micro/kernels/depthwise.h"
#include "micro/kernels/variant.h"

#if NST_MVE

#include <arm_mve.h>

#include "micro/kernels/copy_mve.h"

/* One image, and where its padding lies. */
typedef struct image {
    const nst_depthwise_params *p;
    const nst_depthwise_job *job;
    const nst_depthwise_job *wide; /* of `copies` positions at a time, where copies > 1 */
    uint32_t copies;
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
#define MOST_STRIPS 6u

typedef struct row {
    nst_depthwise_strip wide; /* several positions at a time; none: wide.positions is 0 */
    nst_depthwise_strip strips[MOST_STRIPS];
    uint32_t count;
} row;

/* The strip that begins with `column`, for the row of output whose first taps lie at `top`; each
 * of its positions stands for `copies`. */
static void place(const image *in, nst_depthwise_strip *strip, int32_t top, uint32_t column,
                  uint32_t positions, uint32_t copies, int8_t *output) {
    const nst_depthwise_params *p = in->p;
    const int32_t left = (int32_t)(column * p->stride_width) - (int32_t)p->pad_width;
    const uint32_t moved = (uint32_t)nst_round_up(p->input_channels, 16);
    const uint32_t down = p->stride_height * p->input_width * p->input_channels;
    strip->positions = positions;
    strip->output = output + column * p->input_channels;
    strip->steps_any = 0;
    for (uint32_t ky = 0; ky < 3; ++ky) {
        const int32_t y = top + (int32_t)(ky * p->dilation_height);
        for (uint32_t kx = 0; kx < 3; ++kx) {
            const int8_t *tap = tap_at(in, y, left + (int32_t)(kx * p->dilation_width));
            strip->taps[3 * ky + kx] = tap;
            strip->down[3 * ky + kx] = tap == in->padding ? 0 : down;
        }
        const bool inside = (uint32_t)y < p->input_height;
        strip->steps[ky] = (inside ? copies * p->stride_width * p->input_channels : 0) - moved;
        strip->steps_any |= positions > 1 ? strip->steps[ky] : 0;
    }
}

/* The strips of the row of output whose first taps lie at `top`. Columns [begin, end) have all
 * their taps inside. */
static void place_row(const image *in, row *r, int32_t top, uint32_t begin, uint32_t end,
                      int8_t *output) {
    const uint32_t wide = in->copies > 1 && begin < end ? (end - begin) / in->copies : 0;
    r->count = 0;
    r->wide.positions = 0;
    for (uint32_t column = 0; column < in->p->output_width;) {
        uint32_t positions = 1;
        if (column == begin && wide > 0) {
            place(in, &r->wide, top, column, wide, in->copies, output);
            column += wide * in->copies;
            positions = end - column;
        } else if (column == begin && begin < end) {
            positions = end - begin;
        }
        if (positions > 0) {
            place(in, &r->strips[r->count++], top, column, positions, 1, output);
            column += positions;
        }
    }
}

static void move_strip_down(const nst_depthwise_params *p, nst_depthwise_strip *strip) {
    for (uint32_t i = 0; i < 9; ++i) {
        strip->taps[i] += strip->down[i];
    }
    strip->output += p->output_width * p->input_channels;
}

/* From one row of output to the next, where all rows of taps lie inside before and after. */
static void move_down(const nst_depthwise_params *p, row *r) {
    if (r->wide.positions > 0) {
        move_strip_down(p, &r->wide);
    }
    for (uint32_t i = 0; i < r->count; ++i) {
        move_strip_down(p, &r->strips[i]);
    }
}

/* Output columns [begin, end) have all their taps inside. Returns false where too many have not. */
static bool run_3x3_image(const image *in, uint32_t begin, uint32_t end, int8_t *output) {
    const nst_depthwise_params *p = in->p;
    const uint32_t inside = begin < end ? end - begin : 0;
    if (p->output_width - inside >= MOST_STRIPS) {
        return false;
    }
    row r;
    bool was_inside = false;
    for (uint32_t i = 0; i < p->output_height; ++i) {
        const int32_t top = (int32_t)(i * p->stride_height) - (int32_t)p->pad_height;
        const bool is_inside =
            top >= 0 && top + 2 * (int32_t)p->dilation_height < (int32_t)p->input_height;
        if (was_inside && is_inside) {
            move_down(p, &r);
        } else {
            place_row(in, &r, top, begin, end, output);
        }
        was_inside = is_inside;
        if (r.wide.positions > 0) {
            nst_depthwise_mve_3x3(in->wide, &r.wide, 1);
        }
        if (r.count > 0) {
            nst_depthwise_mve_3x3(in->job, r.strips, r.count);
        }
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

/* Constants of a 3 x 3 kernel for `copies` positions of 4 or 8 channels that stand side by side: of
 * the sixteen channels, only these count, and they come again and again. */
static void widen_constants(uint32_t channels, nst_depthwise_job *job, int8_t *scratch) {
    const uint8x16_t lanes = vandq_u8(vidupq_n_u8(0, 1), vdupq_n_u8((uint8_t)(channels - 1)));
    /* In the table, every fourth channel stands together. */
    const uint32_t fours = channels / 4;
    const uint32x4_t words = vandq_u32(vidupq_n_u32(0, 1), vdupq_n_u32(fours - 1));
    for (uint32_t tap = 0; tap < 9; ++tap) {
        vstrbq_s8(scratch + tap * 16, vldrbq_gather_offset_s8(job->weights + tap * 16, lanes));
    }
    int32_t *table = (int32_t *)(void *)(scratch + NST_DEPTHWISE_WIDE_TABLE);
    for (uint32_t four = 0; four < 12; ++four) {
        vstrwq_s32(table + four * 4,
                   vldrwq_gather_shifted_offset_s32(job->channels + four * 4, words));
    }
    job->weights = scratch;
    job->channels = table;
    job->blocks = 1;
    job->tail = 0;
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
    nst_depthwise_job wide = job;
    if (nst_depthwise_is_widened(p)) {
        widen_constants(p->input_channels, &wide, padding + pixel_bytes);
    }
    nst_fill_mve(padding, p->input_zero_point, pixel_bytes);
    image in = {
        .p = p,
        .job = &job,
        .wide = &wide,
        .copies = nst_depthwise_is_widened(p) ? 16 / p->input_channels : 1,
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
