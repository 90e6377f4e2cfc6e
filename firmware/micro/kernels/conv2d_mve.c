/* conv2d on MVE. Positions whose window lies inside the image are read where they lie, in strips
 * of pairs; all others are gathered into scratch memory. Short kernel rows are another matter:
 * conv2d_packed_mve.h. */
#include "micro/kernels/conv2d.h"
#include "micro/kernels/variant.h"

#if NST_MVE

#include "micro/kernels/conv2d_packed_mve.h"
#include "micro/kernels/copy_mve.h"
#include "micro/kernels/matmul_mve.h"

/* A group of an image. */
typedef struct job {
    const nst_conv2d_params *p;
    const int8_t *image; /* the group's first channel at (0, 0) */
    const int8_t *end;   /* of the whole input */
    int8_t *output;      /* the group's first channel of the image's first output */
    uint32_t channels;   /* input channels of the group */
    /* Output columns [inside_begin, inside_end) whose taps all lie inside the image; none where
     * those cannot be read in whole vectors. */
    uint32_t inside_begin, inside_end;
    uint32_t reach;         /* bytes from such a position's first tap to the end of what is read */
    bool packs;             /* whether their windows are put together first */
    nst_matmul_strip strip; /* of positions that are read where they lie */
    nst_matmul_queue queue;
} job;

/* Copy the window of one position, runs padded as the weights are; what pads a run may hold
 * anything. */
static void gather(const job *j, int32_t top, int32_t left, int8_t *to) {
    const nst_conv2d_params *p = j->p;
    const bool together = j->channels == p->input_channels && p->dilation_width == 1;
    const uint32_t run_gap = p->runs > 1 ? j->queue.column_bytes / p->runs : 0;
    const uint32_t width = p->kernel_width * j->channels;
    /* Taps [before, within) of each kernel row lie in the image; only where taps are neighbours. */
    const uint32_t before = left < 0 ? (uint32_t)-left : 0;
    const int32_t room = (int32_t)p->input_width - left;
    const uint32_t within =
        room < (int32_t)p->kernel_width ? (uint32_t)(room > 0 ? room : 0) : p->kernel_width;
    for (uint32_t ky = 0; ky < p->kernel_height; ++ky) {
        const int32_t y = top + (int32_t)(ky * p->dilation_height);
        int8_t *next = run_gap != 0 ? to + run_gap : to + width;
        if (y < 0 || y >= (int32_t)p->input_height) {
            nst_fill_mve(to, p->input_zero_point, width);
        } else if (together && before < within) {
            const int8_t *row = j->image + (uint32_t)y * p->input_width * p->input_channels;
            const uint32_t first = before * j->channels;
            const uint32_t last = within * j->channels;
            if (first > 0) {
                nst_fill_mve(to, p->input_zero_point, first);
            }
            nst_copy_mve(to + first, row + (left + (int32_t)before) * (int32_t)j->channels,
                         last - first);
            if (last < width) {
                nst_fill_mve(to + last, p->input_zero_point, width - last);
            }
        } else {
            const int8_t *row = j->image + (uint32_t)y * p->input_width * p->input_channels;
            for (uint32_t kx = 0; kx < p->kernel_width; ++kx, to += j->channels) {
                const int32_t x = left + (int32_t)(kx * p->dilation_width);
                if (x < 0 || x >= (int32_t)p->input_width) {
                    nst_fill_mve(to, p->input_zero_point, j->channels);
                } else {
                    nst_copy_mve(to, row + (uint32_t)x * p->input_channels, j->channels);
                }
            }
        }
        to = next;
    }
}

static void gather_columns(job *j, int32_t top, uint32_t begin, uint32_t end, int8_t *output) {
    for (uint32_t column = begin; column < end; ++column) {
        const int32_t left = (int32_t)(column * j->p->stride_width) - (int32_t)j->p->pad_width;
        gather(j, top, left, nst_matmul_queue_slot(&j->queue));
        nst_matmul_queue_push(&j->queue, output + column * j->p->output_channels);
    }
}

/* One row of output; `output` is its first position. */
static void run_row(job *j, int32_t top, int8_t *output) {
    const nst_conv2d_params *p = j->p;
    const uint32_t width = p->output_width;
    const int32_t bottom = top + (int32_t)((p->kernel_height - 1) * p->dilation_height);
    const uint32_t begin = j->inside_begin;
    uint32_t end = top >= 0 && bottom < (int32_t)p->input_height ? j->inside_end : 0;
    if (begin >= end) {
        gather_columns(j, top, 0, width, output);
        return;
    }
    const int8_t *first = j->image + (uint32_t)top * p->input_width * p->input_channels +
                          (begin * p->stride_width - p->pad_width) * p->input_channels;
    /* Whole vectors may not pass the end of the input. */
    const uint32_t column_step = p->stride_width * p->input_channels;
    while (end > begin && (uint32_t)(j->end - first) < (end - 1 - begin) * column_step + j->reach) {
        --end;
    }
    const uint32_t pairs = (end - begin) / 2;
    gather_columns(j, top, 0, begin, output);
    if (pairs > 0) {
        j->strip.column0 = first;
        j->strip.column1 = first + column_step;
        j->strip.output0 = output + begin * p->output_channels;
        j->strip.pairs = pairs;
        nst_matmul_mve_pairs(&j->strip);
    }
    gather_columns(j, top, begin + 2 * pairs, width, output);
}

/* Which positions can be read where they lie, and how far. */
static void find_inside(job *j) {
    const nst_conv2d_params *p = j->p;
    const uint32_t reach = (p->kernel_width - 1) * p->dilation_width + 1;
    const bool neighbours =
        p->kernel_width == 1 || (p->dilation_width == 1 && j->channels == p->input_channels);
    const uint32_t room = p->input_width + p->pad_width;
    if (!neighbours || p->runs != p->kernel_height || room < reach) {
        return;
    }
    const uint32_t end = (room - reach) / p->stride_width + 1;
    j->inside_begin = (p->pad_width + p->stride_width - 1) / p->stride_width;
    j->inside_end = end < p->output_width ? end : p->output_width;
    const uint32_t row_bytes = (uint32_t)nst_round_up(p->kernel_width * j->channels, 16);
    j->reach = (p->kernel_height - 1) * p->dilation_height * p->input_width * p->input_channels +
               row_bytes;
}

static void run_group(job *j) {
    const nst_conv2d_params *p = j->p;
    for (uint32_t batch = 0; batch < p->batches; ++batch) {
        int8_t *output = j->output;
        for (uint32_t row = 0; row < p->output_height; ++row) {
            run_row(j, (int32_t)(row * p->stride_height) - (int32_t)p->pad_height, output);
            output += p->output_width * p->output_channels;
        }
        j->output = output;
        j->image += p->input_height * p->input_width * p->input_channels;
    }
    nst_matmul_queue_flush(&j->queue);
}

/* A convolution of single positions is one row, images and all. */
static nst_conv2d_params flatten(const nst_conv2d_params *p) {
    nst_conv2d_params flat = *p;
    if (p->kernel_height == 1 && p->kernel_width == 1 && p->stride_height == 1 &&
        p->stride_width == 1 && p->pad_height == 0 && p->pad_width == 0 &&
        p->output_height == p->input_height && p->output_width == p->input_width) {
        flat.input_width = flat.output_width = p->batches * p->input_height * p->input_width;
        flat.input_height = flat.output_height = flat.batches = 1;
    }
    return flat;
}

void nst_conv2d_run(const void *params, void *const *tensors, void *scratch) {
    const nst_conv2d_params flat = flatten(params);
    const nst_conv2d_params *p = &flat;
    if (nst_conv2d_is_packed(p)) {
        nst_conv2d_packed_run(p, tensors, scratch);
        return;
    }
    const nst_matrix matrix = nst_conv2d_matrix(p);
    const uint32_t run_vectors = (matrix.run_bytes + 15) / 16;
    const uint32_t channel_words =
        (uint32_t)nst_matrix_channels_bytes(matrix.layout, matrix.rows) / sizeof(int32_t);
    const int8_t *input = tensors[0];
    job j = {
        .p = p,
        .end = input + p->batches * p->input_height * p->input_width * p->input_channels,
        .channels = p->input_channels / p->groups,
        .strip =
            {
                .run_vectors = run_vectors,
                .runs = p->runs,
                .run_step =
                    p->dilation_height * p->input_width * p->input_channels - run_vectors * 16,
                .rows = matrix.rows,
                .output1_offset = p->output_channels,
                .column_step = 2 * p->stride_width * p->input_channels,
                .output_step = 2 * p->output_channels,
                .zero_point = p->output_zero_point,
                .low = p->activation_min,
                .high = p->activation_max,
                .scaling = p->scaling,
            },
    };
    find_inside(&j);
    for (uint32_t group = 0; group < p->groups; ++group) {
        j.image = input + group * j.channels;
        j.output = (int8_t *)tensors[3] + group * matrix.rows;
        j.strip.weights = (const int8_t *)tensors[1] + group * nst_matrix_bytes(matrix);
        j.strip.channels = (const int32_t *)tensors[2] + group * channel_words;
        j.queue.strip = j.strip;
        j.queue.strip.run_vectors = run_vectors * p->runs;
        j.queue.strip.runs = 1;
        j.queue.strip.pairs = 1;
        j.queue.slots = scratch;
        j.queue.column_bytes = run_vectors * 16 * p->runs;
        run_group(&j);
    }
}

#endif
