#include "micro/kernels/conv2d_packed_mve.h"

#include "micro/kernels/variant.h"

#if NST_MVE

#include <arm_mve.h>

#include "micro/kernels/copy_mve.h"
#include "micro/kernels/matmul_mve.h"

/* A piece of scratch memory for each. */
typedef struct job {
    const nst_conv2d_params *p;
    nst_matmul_strip strip;
    int8_t *windows; /* [NST_CONV2D_PACKED_WINDOWS][window_bytes], and a vector */
    uint32_t window_bytes;
    int8_t *lines; /* [kernel_height][line_bytes] */
    uint32_t line_bytes;
} job;

/* Copy a line of input, `from` (null: outside the image), between its paddings. */
static void pad_line(const nst_conv2d_params *p, const int8_t *from, int8_t *to) {
    const uint32_t covered = (p->output_width - 1) * p->stride_width + p->kernel_width;
    const uint32_t before = p->pad_width < covered ? p->pad_width : covered;
    const uint32_t room = covered - before;
    const uint32_t inside = from == 0 ? 0 : p->input_width < room ? p->input_width : room;
    if (before > 0) {
        nst_fill_mve(to, p->input_zero_point, before * p->input_channels);
    }
    to += before * p->input_channels;
    nst_copy_mve(to, from, inside * p->input_channels);
    if (inside < room) {
        nst_fill_mve(to + inside * p->input_channels, p->input_zero_point,
                     (room - inside) * p->input_channels);
    }
}

/* Put `count` windows together, kernel rows one behind the other, the first one at `column` of
 * the padded lines. Whole vectors are copied: what is too much is written over by the next row,
 * or lies in the padding. */
static void pack(const job *j, uint32_t column, uint32_t count) {
    const nst_conv2d_params *p = j->p;
    const uint32_t width = p->kernel_width * p->input_channels;
    const uint32_t step = p->stride_width * p->input_channels;
    const int8_t *first = j->lines + column * step;
    int8_t *window = j->windows;
    for (; count > 0; --count, first += step, window += j->window_bytes) {
        const int8_t *from = first;
        int8_t *to = window;
        for (uint32_t ky = p->kernel_height; ky > 0; --ky, from += j->line_bytes, to += width) {
            vstrbq_s8(to, vldrbq_s8(from));
            for (uint32_t done = 16; done < width; done += 16) {
                vstrbq_s8(to + done, vldrbq_s8(from + done));
            }
        }
    }
}

/* One row of output from the lines. */
static void run_row(job *j, int8_t *output) {
    const nst_conv2d_params *p = j->p;
    for (uint32_t column = 0; column < p->output_width; column += NST_CONV2D_PACKED_WINDOWS) {
        const uint32_t left = p->output_width - column;
        const uint32_t count = left < NST_CONV2D_PACKED_WINDOWS ? left : NST_CONV2D_PACKED_WINDOWS;
        pack(j, column, count);
        j->strip.column0 = j->windows;
        j->strip.output0 = output + column * p->output_channels;
        j->strip.pairs = count / 2;
        if (count >= 2) {
            nst_matmul_mve_pairs(&j->strip);
        }
        if (count % 2 != 0) {
            j->strip.column0 += (count - 1) * j->window_bytes;
            j->strip.output0 += (count - 1) * p->output_channels;
            nst_matmul_mve_single(&j->strip);
        }
    }
}

void nst_conv2d_packed_run(const nst_conv2d_params *p, void *const *tensors, int8_t *scratch) {
    const uint32_t row_bytes = p->input_width * p->input_channels;
    const uint32_t taps = p->kernel_height * p->kernel_width * p->input_channels;
    job j = {
        .p = p,
        .windows = scratch,
        .window_bytes = (uint32_t)nst_round_up(taps, 16),
        .line_bytes = (uint32_t)nst_conv2d_packed_line_bytes(p),
    };
    j.lines = j.windows + NST_CONV2D_PACKED_WINDOWS * j.window_bytes + 16;
    j.strip = (nst_matmul_strip){
        .column1 = j.windows + j.window_bytes,
        .run_vectors = j.window_bytes / 16,
        .runs = 1,
        .weights = tensors[1],
        .channels = tensors[2],
        .rows = p->output_channels,
        .output1_offset = p->output_channels,
        .column_step = 2 * j.window_bytes,
        .output_step = 2 * p->output_channels,
        .zero_point = p->output_zero_point,
        .low = p->activation_min,
        .high = p->activation_max,
        .scaling = p->scaling,
    };
    const int8_t *image = tensors[0];
    int8_t *output = tensors[3];
    for (uint32_t batch = 0; batch < p->batches; ++batch, image += p->input_height * row_bytes) {
        for (uint32_t i = 0; i < p->output_height; ++i) {
            for (uint32_t ky = 0; ky < p->kernel_height; ++ky) {
                const int32_t y = (int32_t)(i * p->stride_height) - (int32_t)p->pad_height +
                                  (int32_t)(ky * p->dilation_height);
                const bool inside = y >= 0 && y < (int32_t)p->input_height;
                pad_line(p, inside ? image + (uint32_t)y * row_bytes : 0,
                         j.lines + ky * j.line_bytes);
            }
            run_row(&j, output);
            output += p->output_width * p->output_channels;
        }
    }
}

#endif
