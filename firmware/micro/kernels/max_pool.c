#include "micro/kernels/max_pool.h"

#include <string.h>

#include "micro/kernels/variant.h"

static bool check(const void *params, const uint32_t *tensor_bytes, uint32_t scratch_bytes) {
    (void)scratch_bytes;
    const nst_max_pool_params *p = params;
    return nst_window_ok(&p->window, tensor_bytes[0], tensor_bytes[1]) &&
           nst_are_bounds(p->activation_min, p->activation_max);
}

static uint32_t scratch_bytes(const void *params) {
    (void)params;
    return 0;
}

const nst_operator nst_operator_max_pool = {
    .name = "quantized_max_pool2d",
    .params_bytes = sizeof(nst_max_pool_params),
    .tensors = 2,
    .check = check,
    .scratch_bytes = scratch_bytes,
    .run = nst_max_pool_run,
};

void nst_max_pool_portable(const void *params, void *const *tensors, void *scratch) {
    (void)scratch;
    const nst_max_pool_params *p = params;
    const nst_window_params *w = &p->window;
    const size_t channels = w->channels;
    const size_t image = (size_t)w->input_height * w->input_width * channels;
    const int8_t *input = tensors[0];
    int8_t *output = tensors[1];
    for (uint32_t b = 0; b < w->batches; ++b, input += image) {
        for (uint32_t oy = 0; oy < w->output_height; ++oy) {
            const nst_span y = nst_window_span(oy, w->input_height, w->kernel_height,
                                               w->stride_height, w->pad_height);
            for (uint32_t ox = 0; ox < w->output_width; ++ox, output += channels) {
                const nst_span x = nst_window_span(ox, w->input_width, w->kernel_width,
                                                   w->stride_width, w->pad_width);
                memset(output, p->activation_min, channels);
                for (uint32_t iy = y.begin; iy < y.end; ++iy) {
                    const int8_t *pixel =
                        input + ((size_t)iy * w->input_width + x.begin) * channels;
                    for (uint32_t ix = x.begin; ix < x.end; ++ix, pixel += channels) {
                        for (size_t c = 0; c < channels; ++c) {
                            output[c] = pixel[c] > output[c] ? pixel[c] : output[c];
                        }
                    }
                }
                for (size_t c = 0; c < channels; ++c) {
                    output[c] =
                        output[c] > p->activation_max ? (int8_t)p->activation_max : output[c];
                }
            }
        }
    }
}

#if !NST_MVE && !NST_DSP

void nst_max_pool_run(const void *params, void *const *tensors, void *scratch) {
    nst_max_pool_portable(params, tensors, scratch);
}

#endif
