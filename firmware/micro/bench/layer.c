#include "micro/bench/layer.h"

#include <string.h>

#include "boards/cortex_m/board.h"
#include "micro/kernels/requantize.h"
#include "micro/kernels/variant.h"

#if NST_MVE
#define FAST_LAYOUT NST_LAYOUT_MVE
#elif NST_DSP
#define FAST_LAYOUT NST_LAYOUT_DSP
#else
#define FAST_LAYOUT NST_LAYOUT_ROWS
#endif

#define GUARD_BYTES 32u
#define GUARD 0x5A

uint32_t bench_random(uint32_t *state) {
    /* xorshift32; the state is never 0. */
    uint32_t x = *state;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    *state = x;
    return x;
}

/* What the three kinds have in common. */
typedef struct view {
    const nst_operator *operator;
    void (*portable)(const void *params, void *const *tensors, void *scratch);
    uint32_t input_bytes;
    uint32_t output_bytes;
    uint32_t positions; /* of the output */
    uint32_t rows;      /* output channels */
    uint32_t taps;      /* of one output channel */
    uint32_t groups;
} view;

static view view_of(const bench_shape *shape) {
    if (shape->kind == BENCH_CONV2D) {
        const nst_conv2d_params *p = &shape->params.conv2d;
        const uint32_t positions = p->batches * p->output_height * p->output_width;
        return (view){
            .operator= & nst_operator_conv2d,
            .portable = nst_conv2d_portable,
            .input_bytes = p->batches * p->input_height * p->input_width * p->input_channels,
            .output_bytes = positions * p->output_channels,
            .positions = positions,
            .rows = p->output_channels,
            .taps = p->kernel_height * p->kernel_width * (p->input_channels / p->groups),
            .groups = p->groups,
        };
    }
    if (shape->kind == BENCH_DEPTHWISE) {
        const nst_depthwise_params *p = &shape->params.depthwise;
        const uint32_t channels = p->input_channels * p->channel_multiplier;
        const uint32_t positions = p->batches * p->output_height * p->output_width;
        return (view){
            .operator= & nst_operator_depthwise,
            .portable = nst_depthwise_portable,
            .input_bytes = p->batches * p->input_height * p->input_width * p->input_channels,
            .output_bytes = positions * channels,
            .positions = positions,
            .rows = channels,
            .taps = p->kernel_height * p->kernel_width,
            .groups = 1,
        };
    }
    const nst_linear_params *p = &shape->params.linear;
    return (view){
        .operator= & nst_operator_linear,
        .portable = nst_linear_portable,
        .input_bytes = p->batches * p->inputs,
        .output_bytes = p->batches * p->outputs,
        .positions = p->batches,
        .rows = p->outputs,
        .taps = p->inputs,
        .groups = 1,
    };
}

/* Set the fields that say how constants lie; `fast` as the compiler of plans would for this
 * core. */
static bench_params with_layout(const bench_shape *shape, bool fast, nst_scaling scaling) {
    bench_params params = shape->params;
    const nst_layout layout = fast ? FAST_LAYOUT : NST_LAYOUT_ROWS;
    if (shape->kind == BENCH_CONV2D) {
        nst_conv2d_params *p = &params.conv2d;
        const uint32_t run = p->kernel_width * (p->input_channels / p->groups);
        const uint64_t apart = p->kernel_height * nst_padded_run_bytes(layout, run);
        const uint64_t together = nst_padded_run_bytes(layout, p->kernel_height * run);
        p->layout = layout;
        p->scaling = scaling;
        p->runs = layout == NST_LAYOUT_MVE && 4 * apart <= 5 * together ? p->kernel_height : 1;
    } else if (shape->kind == BENCH_DEPTHWISE) {
        params.depthwise.layout = layout;
        params.depthwise.scaling = scaling;
    } else {
        params.linear.layout = layout;
        params.linear.scaling = scaling;
    }
    return params;
}

/* Bytes of the constants, computed as each check does. */
static uint32_t weights_bytes(const bench_shape *shape, const bench_params *params) {
    if (shape->kind == BENCH_CONV2D) {
        return params->conv2d.groups *
               (uint32_t)nst_matrix_bytes(nst_conv2d_matrix(&params->conv2d));
    }
    if (shape->kind == BENCH_LINEAR) {
        return (uint32_t)nst_matrix_bytes(nst_linear_matrix(&params->linear));
    }
    const view v = view_of(shape);
    return (uint32_t)nst_depthwise_weights_bytes((nst_layout)params->depthwise.layout, v.taps,
                                                 v.rows);
}

static uint32_t channels_bytes(const bench_shape *shape, const bench_params *params) {
    const view v = view_of(shape);
    if (shape->kind == BENCH_DEPTHWISE) {
        return (uint32_t)nst_depthwise_channels_bytes((nst_layout)params->depthwise.layout, v.rows);
    }
    const uint32_t layout =
        shape->kind == BENCH_CONV2D ? params->conv2d.layout : params->linear.layout;
    return v.groups * (uint32_t)nst_matrix_channels_bytes((nst_layout)layout, v.rows / v.groups);
}

static void set_weight(const bench_shape *shape, const bench_params *params, int8_t *weights,
                       uint32_t row, uint32_t tap, int8_t weight) {
    uint32_t one = 1;
    if (shape->kind == BENCH_DEPTHWISE) {
        const view v = view_of(shape);
        uint32_t step;
        const int8_t *first = nst_depthwise_taps((nst_layout)params->depthwise.layout, weights,
                                                 v.taps, v.rows, row, &step);
        *(int8_t *)(first + tap * step) = weight;
        return;
    }
    const nst_matrix matrix = shape->kind == BENCH_CONV2D ? nst_conv2d_matrix(&params->conv2d)
                                                          : nst_linear_matrix(&params->linear);
    weights += row / matrix.rows * nst_matrix_bytes(matrix);
    row %= matrix.rows;
    if (matrix.layout == NST_LAYOUT_DSP) {
        static const uint8_t place[4] = {0, 4, 2, 6};
        const uint32_t fours = (matrix.run_bytes + 3) / 4;
        int8_t *four = weights + (row / 2 * fours + tap / 4) * 8;
        four[place[tap % 4] + row % 2] = (int8_t)(row % 2 == 0 ? weight ^ -128 : weight);
        return;
    }
    *(int8_t *)nst_matrix_taps(matrix, weights, row, tap / matrix.run_bytes, tap % matrix.run_bytes,
                               &one) = weight;
}

/* Where the three numbers of output channel `row` lie. */
static void set_channel(const bench_shape *shape, const bench_params *params, int32_t *channels,
                        uint32_t row, nst_channel channel) {
    int32_t *first;
    uint32_t step = 1;
    if (shape->kind == BENCH_DEPTHWISE) {
        const nst_layout layout = (nst_layout)params->depthwise.layout;
        static const uint8_t group[4] = {0, 8, 4, 12};
        step = layout == NST_LAYOUT_MVE ? 16 : 1;
        first = layout == NST_LAYOUT_MVE ? channels + row / 16 * 48 + group[row % 4] + row % 16 / 4
                                         : channels + row * 3;
    } else {
        const nst_matrix matrix = shape->kind == BENCH_CONV2D ? nst_conv2d_matrix(&params->conv2d)
                                                              : nst_linear_matrix(&params->linear);
        channels += row / matrix.rows * nst_matrix_channels_bytes(matrix.layout, matrix.rows) / 4;
        row %= matrix.rows;
        step = matrix.layout == NST_LAYOUT_MVE ? 4 : 1;
        first = matrix.layout == NST_LAYOUT_MVE ? channels + row / 4 * 12 + row % 4
                                                : channels + row * 3;
    }
    first[0] = channel.bias;
    first[step] = channel.multiplier;
    first[2 * step] = channel.scale;
}

/* Random numbers of a channel: results spread over int8, unless any scale is asked for. */
static nst_channel random_channel(uint32_t taps, bench_scales scales, uint32_t *random) {
    int32_t shift = 6;
    while (UINT64_C(1) << (2 * (shift - 6)) < taps && shift < 11) {
        ++shift;
    }
    shift = scales == BENCH_SCALES_ANY ? (int32_t)(bench_random(random) % 18) - 4 : shift;
    return (nst_channel){
        .bias = (int32_t)(bench_random(random) % 20001) - 10000,
        .multiplier = (int32_t)(0x40000000u + bench_random(random) % 0x40000000u),
        .scale = -shift,
    };
}

static uint8_t *take(bench_memory *memory, uint32_t bytes) {
    uint8_t *taken = memory->begin;
    memory->begin += (bytes + 15u) & ~15u;
    return taken;
}

static uint8_t *take_edge(bench_memory *memory, uint32_t bytes, uint32_t alignment) {
    memory->edge = (uint8_t *)((uintptr_t)(memory->edge - bytes) & ~(uintptr_t)(alignment - 1));
    return memory->edge;
}

static uint32_t count_differences(const int8_t *a, const int8_t *b, uint32_t bytes) {
    uint32_t differences = 0;
    for (uint32_t i = 0; i < bytes; ++i) {
        differences += a[i] != b[i];
    }
    return differences;
}

static uint32_t count_spoiled(const uint8_t *guard) {
    uint32_t spoiled = 0;
    for (uint32_t i = 0; i < GUARD_BYTES; ++i) {
        spoiled += guard[i] != GUARD;
    }
    return spoiled;
}

bench_result bench_run_layer(const bench_shape *shape, bench_memory memory, bench_scales scales,
                             bool input_at_edge, uint32_t *random) {
    const view v = view_of(shape);
    const bool twice = FAST_LAYOUT != NST_LAYOUT_ROWS && scales == BENCH_SCALES_USUAL;
    const bench_params plain = with_layout(shape, false, NST_SCALING_SHIFT);
    const bench_params fast =
        with_layout(shape, true, twice ? NST_SCALING_TWICE : NST_SCALING_SHIFT);
    const uint32_t plain_bytes[4] = {v.input_bytes, weights_bytes(shape, &plain),
                                     channels_bytes(shape, &plain), v.output_bytes};
    const uint32_t fast_bytes[4] = {v.input_bytes, weights_bytes(shape, &fast),
                                    channels_bytes(shape, &fast), v.output_bytes};
    bench_result result = {.macs = (uint64_t)v.positions * v.rows * v.taps};
    /* A core with vectors would refuse the plain one: only the portable kernel reads it there. */
    if (!v.operator->check(&fast, fast_bytes, UINT32_MAX) ||
        !v.operator->check(&fast, fast_bytes, v.operator->scratch_bytes(&fast))) {
        result.mismatches = UINT32_MAX;
        return result;
    }
    const uint32_t scratch_bytes = v.operator->scratch_bytes(&fast);
    int8_t *input = (int8_t *)(input_at_edge ? take_edge(&memory, v.input_bytes, 1)
                                             : take(&memory, v.input_bytes));
    int8_t *fast_weights = (int8_t *)(input_at_edge ? take(&memory, fast_bytes[1])
                                                    : take_edge(&memory, fast_bytes[1], 16));
    int32_t *fast_channels = (int32_t *)take(&memory, fast_bytes[2]);
    int8_t *plain_weights = (int8_t *)take(&memory, plain_bytes[1]);
    int32_t *plain_channels = (int32_t *)take(&memory, plain_bytes[2]);
    uint8_t *scratch = take(&memory, scratch_bytes + GUARD_BYTES);
    int8_t *expected = (int8_t *)take(&memory, v.output_bytes);
    uint8_t *guarded = take(&memory, v.output_bytes + 2 * GUARD_BYTES);
    int8_t *output = (int8_t *)guarded + GUARD_BYTES;

    for (uint32_t i = 0; i < v.input_bytes; ++i) {
        input[i] = (int8_t)bench_random(random);
    }
    memset(fast_weights, 0, fast_bytes[1]);
    memset(fast_channels, 0, fast_bytes[2]);
    for (uint32_t row = 0; row < v.rows; ++row) {
        nst_channel channel = random_channel(v.taps, scales, random);
        set_channel(shape, &plain, plain_channels, row, channel);
        if (twice) {
            channel.scale = (1 << (31 + channel.scale)) + 1;
        }
        set_channel(shape, &fast, fast_channels, row, channel);
        for (uint32_t tap = 0; tap < v.taps; ++tap) {
            int8_t weight = (int8_t)bench_random(random);
            if (FAST_LAYOUT == NST_LAYOUT_MVE && weight == -128 && tap % 2 != 0) {
                weight = 127; /* depthwise with two of them side by side gets another layout */
            }
            set_weight(shape, &plain, plain_weights, row, tap, weight);
            set_weight(shape, &fast, fast_weights, row, tap, weight);
        }
    }
    memset(guarded, GUARD, v.output_bytes + 2 * GUARD_BYTES);
    memset(scratch + scratch_bytes, GUARD, GUARD_BYTES);

    void *plain_tensors[4] = {input, plain_weights, plain_channels, expected};
    void *fast_tensors[4] = {input, fast_weights, fast_channels, output};
    const uint64_t start = nst_board_instructions();
    const uint64_t call = nst_board_instructions() - start;
    const uint64_t before_portable = nst_board_instructions();
    v.portable(&plain, plain_tensors, 0);
    const uint64_t before_fast = nst_board_instructions();
    v.operator->run(&fast, fast_tensors, scratch);
    const uint64_t end = nst_board_instructions();
    result.portable = before_fast - before_portable - call;
    result.fast = end - before_fast - call;
    result.mismatches = count_differences(output, expected, v.output_bytes) +
                        count_spoiled(guarded) +
                        count_spoiled(guarded + GUARD_BYTES + v.output_bytes) +
                        count_spoiled(scratch + scratch_bytes);
    v.portable(&fast, fast_tensors, 0);
    result.mismatches += count_differences(output, expected, v.output_bytes);
    return result;
}
