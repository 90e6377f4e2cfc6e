#include "micro/bench/shapes.h"

#define CONV(shape_name, height, width, inputs, outputs, kernel, stride, pad)     \
    {.name = shape_name,                                                          \
     .kind = BENCH_CONV2D,                                                        \
     .params.conv2d = {.batches = 1,                                              \
                       .input_height = height,                                    \
                       .input_width = width,                                      \
                       .input_channels = inputs,                                  \
                       .output_height = (height + 2 * pad - kernel) / stride + 1, \
                       .output_width = (width + 2 * pad - kernel) / stride + 1,   \
                       .output_channels = outputs,                                \
                       .kernel_height = kernel,                                   \
                       .kernel_width = kernel,                                    \
                       .stride_height = stride,                                   \
                       .stride_width = stride,                                    \
                       .pad_height = pad,                                         \
                       .pad_width = pad,                                          \
                       .dilation_height = 1,                                      \
                       .dilation_width = 1,                                       \
                       .groups = 1,                                               \
                       .input_zero_point = -3,                                    \
                       .output_zero_point = 5,                                    \
                       .activation_min = -128,                                    \
                       .activation_max = 127}}

#define DEPTHWISE(shape_name, height, width, channels, stride)        \
    {.name = shape_name,                                              \
     .kind = BENCH_DEPTHWISE,                                         \
     .params.depthwise = {.batches = 1,                               \
                          .input_height = height,                     \
                          .input_width = width,                       \
                          .input_channels = channels,                 \
                          .output_height = (height - 1) / stride + 1, \
                          .output_width = (width - 1) / stride + 1,   \
                          .channel_multiplier = 1,                    \
                          .kernel_height = 3,                         \
                          .kernel_width = 3,                          \
                          .stride_height = stride,                    \
                          .stride_width = stride,                     \
                          .pad_height = 1,                            \
                          .pad_width = 1,                             \
                          .dilation_height = 1,                       \
                          .dilation_width = 1,                        \
                          .input_zero_point = -3,                     \
                          .output_zero_point = 5,                     \
                          .activation_min = -128,                     \
                          .activation_max = 127}}

#define LINEAR(shape_name, batch, in, out)     \
    {.name = shape_name,                       \
     .kind = BENCH_LINEAR,                     \
     .params.linear = {.batches = batch,       \
                       .inputs = in,           \
                       .outputs = out,         \
                       .output_zero_point = 5, \
                       .activation_min = -128, \
                       .activation_max = 127}}

const bench_shape bench_named_shapes[] = {
    CONV("conv3x3_16_16_32", 32, 32, 16, 16, 3, 1, 1),
    CONV("conv3x3_32_64_16s2", 16, 16, 32, 64, 3, 2, 1),
    CONV("conv1x1_64_64_25x5", 25, 5, 64, 64, 1, 1, 0),
    CONV("conv1x1_32_64_48", 48, 48, 32, 64, 1, 1, 0),
    CONV("conv1x1_128_128_6", 6, 6, 128, 128, 1, 1, 0),
    DEPTHWISE("depthwise3x3_64_25x5", 25, 5, 64, 1),
    DEPTHWISE("depthwise3x3_32_48", 48, 48, 32, 1),
    LINEAR("linear_640_128", 1, 640, 128),
    LINEAR("linear_128_128", 1, 128, 128),
    LINEAR("linear_64_256_b16", 16, 64, 256),
    CONV("conv3x3_1_16_8", 8, 8, 1, 16, 3, 1, 1),
    CONV("conv3x3_3_8_96s2", 96, 96, 3, 8, 3, 2, 1),
    DEPTHWISE("depthwise3x3_8_48", 48, 48, 8, 1),
    DEPTHWISE("depthwise3x3_64_24s2", 24, 24, 64, 2),
};
const uint32_t bench_named_count = sizeof bench_named_shapes / sizeof bench_named_shapes[0];

static uint32_t draw(uint32_t *random, uint32_t low, uint32_t high) {
    return low + bench_random(random) % (high - low + 1);
}

/* The output's size that torch would give, or more where `extra` positions lie behind; at least
 * 1. */
static uint32_t output_size(uint32_t input, uint32_t kernel, uint32_t stride, uint32_t pad,
                            uint32_t dilation, uint32_t extra) {
    const uint32_t reach = (kernel - 1) * dilation + 1;
    const uint32_t room = input + 2 * pad;
    return (room > reach ? (room - reach) / stride + 1 : 1) + extra;
}

static bench_shape random_conv2d(uint32_t *random) {
    nst_conv2d_params p = {
        .batches = draw(random, 1, 3),
        .input_height = draw(random, 1, 9),
        .input_width = draw(random, 1, 12),
        .groups = draw(random, 0, 3) == 0 ? draw(random, 2, 3) : 1,
        .kernel_height = draw(random, 1, 4),
        .kernel_width = draw(random, 1, 4),
        .stride_height = draw(random, 1, 3),
        .stride_width = draw(random, 1, 3),
        .pad_height = draw(random, 0, 2),
        .pad_width = draw(random, 0, 2),
        .dilation_height = draw(random, 1, 2),
        .dilation_width = draw(random, 0, 3) == 0 ? 2 : 1,
        .input_zero_point = (int32_t)draw(random, 0, 255) - 128,
        .output_zero_point = (int32_t)draw(random, 0, 255) - 128,
        .activation_min = (int32_t)draw(random, 0, 100) - 128,
        .activation_max = (int32_t)draw(random, 0, 127),
    };
    if (draw(random, 0, 2) == 0) { /* single positions */
        p.kernel_height = p.kernel_width = p.stride_height = p.stride_width = 1;
        p.pad_height = p.pad_width = 0;
    }
    p.input_channels =
        p.groups * (draw(random, 0, 1) ? 16 * draw(random, 1, 4) : draw(random, 1, 40));
    p.output_channels = p.groups * draw(random, 1, 21);
    p.output_height = output_size(p.input_height, p.kernel_height, p.stride_height, p.pad_height,
                                  p.dilation_height, draw(random, 0, 9) == 0);
    p.output_width = output_size(p.input_width, p.kernel_width, p.stride_width, p.pad_width,
                                 p.dilation_width, draw(random, 0, 9) == 0);
    return (bench_shape){.name = "conv2d", .kind = BENCH_CONV2D, .params.conv2d = p};
}

static bench_shape random_depthwise(uint32_t *random) {
    nst_depthwise_params p = {
        .batches = draw(random, 1, 2),
        .input_height = draw(random, 1, 8),
        .input_width = draw(random, 1, 8),
        .input_channels = draw(random, 1, 50),
        .channel_multiplier = draw(random, 0, 3) == 0 ? draw(random, 2, 4) : 1,
        .kernel_height = draw(random, 0, 1) ? 3 : draw(random, 1, 5),
        .kernel_width = draw(random, 0, 1) ? 3 : draw(random, 1, 5),
        .stride_height = draw(random, 1, 2),
        .stride_width = draw(random, 1, 2),
        .pad_height = draw(random, 0, 2),
        .pad_width = draw(random, 0, 2),
        .dilation_height = draw(random, 0, 3) == 0 ? 2 : 1,
        .dilation_width = draw(random, 0, 3) == 0 ? 2 : 1,
        .input_zero_point = (int32_t)draw(random, 0, 255) - 128,
        .output_zero_point = (int32_t)draw(random, 0, 255) - 128,
        .activation_min = (int32_t)draw(random, 0, 100) - 128,
        .activation_max = (int32_t)draw(random, 0, 127),
    };
    if (draw(random, 0, 3) == 0) { /* several positions fit into a vector */
        p.input_channels = draw(random, 0, 1) ? 4 : 8;
        p.stride_width = 1;
    }
    if (draw(random, 0, 2) == 0) { /* no activation */
        p.activation_min = -128;
        p.activation_max = 127;
    }
    p.output_height = output_size(p.input_height, p.kernel_height, p.stride_height, p.pad_height,
                                  p.dilation_height, draw(random, 0, 9) == 0);
    p.output_width = output_size(p.input_width, p.kernel_width, p.stride_width, p.pad_width,
                                 p.dilation_width, draw(random, 0, 9) == 0);
    return (bench_shape){.name = "depthwise", .kind = BENCH_DEPTHWISE, .params.depthwise = p};
}

static bench_shape random_linear(uint32_t *random) {
    return (bench_shape){
        .name = "linear",
        .kind = BENCH_LINEAR,
        .params.linear =
            {
                .batches = draw(random, 1, 7),
                .inputs = draw(random, 0, 1) ? 16 * draw(random, 1, 40) : draw(random, 1, 300),
                .outputs = draw(random, 1, 40),
                .output_zero_point = (int32_t)draw(random, 0, 255) - 128,
                .activation_min = (int32_t)draw(random, 0, 100) - 128,
                .activation_max = (int32_t)draw(random, 0, 127),
            },
    };
}

bench_shape bench_random_shape(uint32_t *random) {
    const uint32_t kind = draw(random, 0, 4);
    return kind < 2   ? random_conv2d(random)
           : kind < 4 ? random_depthwise(random)
                      : random_linear(random);
}
