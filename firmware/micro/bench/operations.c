#include "micro/bench/operation.h"

/* Operators of two int8 operands of one size. */
#define PAIR(count) .bytes = {count, count, count}, .units = count

#define ADD_SCALES                                                                \
    .self_zero_point = 3, .self_multiplier = 1 << 30, .other_zero_point = -5,     \
    .other_multiplier = 1600000000, .other_shift = -1, .output_zero_point = 7,    \
    .output_multiplier = 1500000000, .output_shift = -18, .activation_min = -128, \
    .activation_max = 127

#define ADD(shape_name, count)                        \
    {.name = shape_name,                              \
     .operator= & nst_operator_add,                   \
     .portable = nst_add_portable,                    \
     .params.add = {count, count, count, ADD_SCALES}, \
     PAIR(count)}

#define SOFTMAX(shape_name, row_count, column_count)                        \
    {.name = shape_name,                                                    \
     .operator= & nst_operator_softmax,                                     \
     .portable = nst_softmax_portable,                                      \
     .params.softmax = {row_count, column_count, 3, 0.1f},                  \
     .bytes = {(row_count) * (column_count), (row_count) * (column_count)}, \
     .units = (row_count) * (column_count)}

#define AVG_POOL(shape_name, size, depth, kernel)                                             \
    {.name = shape_name,                                                                      \
     .operator= & nst_operator_avg_pool,                                                      \
     .portable = nst_avg_pool_portable,                                                       \
     .params.avg_pool = {{1, depth, size, size, (size) / (kernel), (size) / (kernel), kernel, \
                          kernel, kernel, kernel, 0, 0},                                      \
                         3,                                                                   \
                         0.1f},                                                               \
     .bytes = {(size) * (size) * (depth), (size) * (size) * (depth) / ((kernel) * (kernel))}, \
     .units = (size) * (size) * (depth)}

#define BATCH_MATMUL(shape_name, batch, m, n, k)                               \
    {.name = shape_name,                                                       \
     .operator= & nst_operator_batch_matmul,                                   \
     .portable = nst_batch_matmul_portable,                                    \
     .params.batch_matmul = {batch, m, n, k, 3, -2, 4, 1500000000, -8},        \
     .bytes = {(batch) * (m) * (k), (batch) * (n) * (k), (batch) * (m) * (n)}, \
     .units = (batch) * (m) * (n) * (k)}

const bench_operation bench_named_operations[] = {
    ADD("add_16384", 16384),
    ADD("add_1024", 1024),
    SOFTMAX("softmax_16x16", 16, 16),
    SOFTMAX("softmax_64x197", 64, 197),
    AVG_POOL("avgpool_8x8x64", 8, 64, 8),
    AVG_POOL("avgpool_2x2_16x16x32", 16, 32, 2),
    BATCH_MATMUL("batch_matmul_4_16_16_16", 4, 16, 16, 16),
    BATCH_MATMUL("batch_matmul_3_64_64_64", 3, 64, 64, 64),
    {.name = "mul_16384",
     .operator= & nst_operator_mul,
     .portable = nst_mul_portable,
     .params.mul = {16384, 16384, 16384, 3, -4, 5, 1500000000, -8},
     PAIR(16384)},
    {.name = "activation_16384",
     .operator= & nst_operator_activation,
     .portable = nst_activation_portable,
     .params.activation = {16384},
     .bytes = {16384, 256, 16384},
     .units = 16384},
    {.name = "layer_norm_16x64",
     .operator= & nst_operator_layer_norm,
     .portable = nst_layer_norm_portable,
     .params.layer_norm = {16, 64, 3, 0.1f, 1e-6f, 30.0f, 4, -128, 127},
     .bytes = {1024, 256, 256, 1024},
     .floats = 6,
     .units = 1024},
    {.name = "max_pool_2x2_16x16x32",
     .operator= & nst_operator_max_pool,
     .portable = nst_max_pool_portable,
     .params.max_pool = {{1, 32, 16, 16, 8, 8, 2, 2, 2, 2, 0, 0}, -128, 127},
     .bytes = {8192, 2048},
     .units = 8192},
    {.name = "transpose_heads_16x4x16",
     .operator= & nst_operator_transpose,
     .portable = nst_transpose_portable,
     .params.transpose = {3, 1, {16, 4, 16}, {1, 0, 2}},
     .bytes = {1024, 1024},
     .units = 1024},
    {.name = "transpose_4x16x16",
     .operator= & nst_operator_transpose,
     .portable = nst_transpose_portable,
     .params.transpose = {3, 1, {4, 16, 16}, {0, 2, 1}},
     .bytes = {1024, 1024},
     .units = 1024},
    {.name = "quantize_4096",
     .operator= & nst_operator_quantize,
     .portable = nst_quantize_portable,
     .params.quantize = {4096, 8.0f, 3, -128, 127},
     .bytes = {16384, 4096},
     .floats = 1,
     .units = 4096},
    {.name = "dequantize_4096",
     .operator= & nst_operator_dequantize,
     .portable = nst_dequantize_portable,
     .params.dequantize = {4096, 3, 0.1f},
     .bytes = {4096, 16384},
     .units = 4096},
};
const uint32_t bench_named_operation_count =
    sizeof bench_named_operations / sizeof bench_named_operations[0];

static uint32_t draw(uint32_t *random, uint32_t low, uint32_t high) {
    return low + bench_random(random) % (high - low + 1);
}

static int32_t zero_point(uint32_t *random) {
    return (int32_t)draw(random, 0, 255) - 128;
}

/* In [2^30, 2^31), the lowest one often: it makes ties. */
static int32_t multiplier(uint32_t *random) {
    return (int32_t)(0x40000000u + (draw(random, 0, 2) == 0 ? 0 : bench_random(random) >> 2));
}

static float scale(uint32_t *random) {
    return draw(random, 0, 1) ? 0.125f : (float)draw(random, 1, 4000) / 4096.0f;
}

/* Rows of `columns`, one operand a single row now and then. */
typedef struct pair {
    uint32_t elements;
    uint32_t self;
    uint32_t other;
} pair;

static pair random_pair(uint32_t *random) {
    const uint32_t columns = draw(random, 1, 50);
    const uint32_t elements = columns * draw(random, 1, 12);
    const uint32_t kind = draw(random, 0, 3);
    return (pair){elements, kind == 0 ? columns : elements, kind == 1 ? columns : elements};
}

static bench_operation random_add(uint32_t *random) {
    const pair n = random_pair(random);
    const int32_t sign = draw(random, 0, 3) == 0 ? -1 : 1;
    return (bench_operation){
        .name = "add",
        .operator= & nst_operator_add,
        .portable = nst_add_portable,
        .params.add = {n.elements, n.self, n.other, zero_point(random), multiplier(random),
                       -(int32_t)draw(random, 0, 4), zero_point(random), sign * multiplier(random),
                       -(int32_t)draw(random, 0, 4), zero_point(random), multiplier(random),
                       draw(random, 0, 9) == 0 ? 0 : -(int32_t)draw(random, 15, 22),
                       (int32_t)draw(random, 0, 100) - 128, (int32_t)draw(random, 0, 127)},
        .bytes = {n.self, n.other, n.elements},
    };
}

static bench_operation random_mul(uint32_t *random) {
    const pair n = random_pair(random);
    return (bench_operation){
        .name = "mul",
        .operator= & nst_operator_mul,
        .portable = nst_mul_portable,
        .params.mul = {n.elements, n.self, n.other, zero_point(random), zero_point(random),
                       zero_point(random), multiplier(random), 2 - (int32_t)draw(random, 0, 20)},
        .bytes = {n.self, n.other, n.elements},
    };
}

static bench_operation random_minimum_maximum(uint32_t *random) {
    const pair n = random_pair(random);
    const bool minimum = draw(random, 0, 1);
    return (bench_operation){
        .name = minimum ? "minimum" : "maximum",
        .operator= minimum ? &nst_operator_minimum : & nst_operator_maximum,
        .portable = minimum ? nst_minimum_portable : nst_maximum_portable,
        .params.minimum_maximum = {n.elements, n.self, n.other},
        .bytes = {n.self, n.other, n.elements},
    };
}

static bench_operation random_activation(uint32_t *random) {
    const uint32_t elements = draw(random, 1, 300);
    return (bench_operation){
        .name = "activation",
        .operator= & nst_operator_activation,
        .portable = nst_activation_portable,
        .params.activation = {elements},
        .bytes = {elements, 256, elements},
    };
}

static bench_operation random_softmax(uint32_t *random) {
    const uint32_t rows = draw(random, 1, 4);
    const uint32_t columns = draw(random, 1, 80);
    return (bench_operation){
        .name = "softmax",
        .operator= & nst_operator_softmax,
        .portable = nst_softmax_portable,
        .params.softmax = {rows, columns, zero_point(random),
                           draw(random, 0, 5) == 0 ? 3.0f * scale(random) : scale(random) * 0.3f},
        .bytes = {rows * columns, rows * columns},
    };
}

static bench_operation random_layer_norm(uint32_t *random) {
    const uint32_t rows = draw(random, 1, 3);
    const uint32_t columns = draw(random, 1, 400);
    return (bench_operation){
        .name = "layer_norm",
        .operator= & nst_operator_layer_norm,
        .portable = nst_layer_norm_portable,
        .params.layer_norm = {rows, columns, zero_point(random), scale(random), 1e-6f,
                              1.0f / scale(random), zero_point(random), -128, 127},
        .bytes = {rows * columns, draw(random, 0, 3) ? columns * 4 : 0,
                  draw(random, 0, 3) ? columns * 4 : 0, rows * columns},
        .floats = 6,
    };
}

static bench_operation random_batch_matmul(uint32_t *random) {
    const uint32_t batches = draw(random, 1, 3);
    const uint32_t rows = draw(random, 1, 7);
    const uint32_t columns = draw(random, 1, 13);
    const uint32_t inner = draw(random, 1, 70);
    return (bench_operation){
        .name = "batch_matmul",
        .operator= & nst_operator_batch_matmul,
        .portable = nst_batch_matmul_portable,
        .params.batch_matmul = {batches, rows, columns, inner,
                                draw(random, 0, 1) ? 0 : zero_point(random),
                                draw(random, 0, 1) ? 0 : zero_point(random), zero_point(random),
                                multiplier(random), 1 - (int32_t)draw(random, 0, 15)},
        .bytes = {batches * rows * inner, batches * columns * inner, batches * rows * columns},
    };
}

static nst_window_params random_window(uint32_t *random) {
    nst_window_params w = {
        .batches = draw(random, 1, 2),
        .channels = draw(random, 1, 50),
        .kernel_height = draw(random, 1, 5),
        .kernel_width = draw(random, 1, 5),
        .stride_height = draw(random, 1, 3),
        .stride_width = draw(random, 1, 3),
    };
    w.pad_height = draw(random, 0, w.kernel_height / 2);
    w.pad_width = draw(random, 0, w.kernel_width / 2);
    w.input_height = draw(random, w.kernel_height, w.kernel_height + 5);
    w.input_width = draw(random, w.kernel_width, w.kernel_width + 5);
    w.output_height = (w.input_height + 2 * w.pad_height - w.kernel_height) / w.stride_height + 1;
    w.output_width = (w.input_width + 2 * w.pad_width - w.kernel_width) / w.stride_width + 1;
    return w;
}

static bench_operation random_pool(uint32_t *random) {
    const nst_window_params w = random_window(random);
    bench_operation operation = {
        .bytes = {w.batches * w.input_height * w.input_width * w.channels,
                  w.batches * w.output_height * w.output_width * w.channels},
    };
    if (draw(random, 0, 1)) {
        operation.name = "avg_pool";
        operation.operator= & nst_operator_avg_pool;
        operation.portable = nst_avg_pool_portable;
        operation.params.avg_pool = (nst_avg_pool_params){w, zero_point(random), scale(random)};
    } else {
        operation.name = "max_pool";
        operation.operator= & nst_operator_max_pool;
        operation.portable = nst_max_pool_portable;
        operation.params.max_pool = (nst_max_pool_params){w, (int32_t)draw(random, 0, 99) - 128,
                                                          (int32_t)draw(random, 0, 127)};
    }
    return operation;
}

static bench_operation random_transpose(uint32_t *random) {
    nst_transpose_params p = {.rank = draw(random, 1, 4),
                              .element_bytes = 1u << draw(random, 0, 2)};
    uint32_t bytes = p.element_bytes;
    for (uint32_t i = 0; i < p.rank; ++i) {
        p.input_shape[i] = draw(random, 1, p.rank == 2 ? 40 : 12);
        bytes *= p.input_shape[i];
        const uint32_t place = draw(random, 0, i);
        p.permutation[i] = p.permutation[place];
        p.permutation[place] = i;
    }
    return (bench_operation){
        .name = "transpose",
        .operator= & nst_operator_transpose,
        .portable = nst_transpose_portable,
        .params.transpose = p,
        .bytes = {bytes, bytes},
        .floats = p.element_bytes == 4,
    };
}

static bench_operation random_pad(uint32_t *random) {
    nst_pad_params p = {.value = zero_point(random)};
    uint32_t bytes[2] = {1, 1};
    for (uint32_t i = 0; i < 4; ++i) {
        p.input_shape[i] = draw(random, 1, 6);
        p.before[i] = draw(random, 0, 3);
        p.after[i] = draw(random, 0, 3);
        bytes[0] *= p.input_shape[i];
        bytes[1] *= p.input_shape[i] + p.before[i] + p.after[i];
    }
    return (bench_operation){
        .name = "pad",
        .operator= & nst_operator_pad,
        .portable = nst_pad_portable,
        .params.pad = p,
        .bytes = {bytes[0], bytes[1]},
    };
}

static bench_operation random_quantize(uint32_t *random) {
    const uint32_t elements = draw(random, 1, 200);
    if (draw(random, 0, 1)) {
        return (bench_operation){
            .name = "dequantize",
            .operator= & nst_operator_dequantize,
            .portable = nst_dequantize_portable,
            .params.dequantize = {elements, zero_point(random), scale(random)},
            .bytes = {elements, elements * 4},
        };
    }
    return (bench_operation){
        .name = "quantize",
        .operator= & nst_operator_quantize,
        .portable = nst_quantize_portable,
        .params.quantize = {elements, 1.0f / scale(random), zero_point(random), -128, 127},
        .bytes = {elements * 4, elements},
        .floats = 1,
    };
}

bench_operation bench_random_operation(uint32_t *random) {
    bench_operation (*const kinds[])(uint32_t *) = {
        random_add,          random_mul,     random_minimum_maximum,
        random_activation,   random_softmax, random_layer_norm,
        random_batch_matmul, random_pool,    random_pool,
        random_transpose,    random_pad,     random_quantize,
    };
    return kinds[draw(random, 0, sizeof kinds / sizeof kinds[0] - 1)](random);
}
