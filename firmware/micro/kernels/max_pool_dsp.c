#include "micro/kernels/max_pool.h"
#include "micro/kernels/variant.h"

#if NST_DSP

#include "micro/kernels/instructions_dsp.h"

/* Four channels of a window: `pixel` is its first, `rows` and `columns` its size. */
static inline uint32_t largest_of_four(const int8_t *pixel, uint32_t rows, uint32_t columns,
                                       size_t channels, size_t row_bytes, uint32_t lows) {
    uint32_t largest = lows;
    for (uint32_t y = 0; y < rows; ++y, pixel += row_bytes) {
        const int8_t *value = pixel;
        for (uint32_t x = 0; x < columns; ++x, value += channels) {
            largest = nst_larger_bytes(largest, nst_load_word(value));
        }
    }
    return largest;
}

void nst_max_pool_run(const void *params, void *const *tensors, void *scratch) {
    const nst_max_pool_params *p = params;
    const nst_window_params *w = &p->window;
    const uint32_t channels = w->channels;
    if (channels < 4) {
        nst_max_pool_portable(params, tensors, scratch);
        return;
    }
    const uint32_t lows = (uint8_t)p->activation_min * 0x01010101u;
    const uint32_t highs = (uint8_t)p->activation_max * 0x01010101u;
    const size_t row_bytes = (size_t)w->input_width * channels;
    const int8_t *input = tensors[0];
    int8_t *output = tensors[1];
    for (uint32_t b = 0; b < w->batches; ++b, input += w->input_height * row_bytes) {
        for (uint32_t i = 0; i < w->output_height; ++i) {
            const nst_span y = nst_window_span(i, w->input_height, w->kernel_height,
                                               w->stride_height, w->pad_height);
            for (uint32_t j = 0; j < w->output_width; ++j, output += channels) {
                const nst_span x = nst_window_span(j, w->input_width, w->kernel_width,
                                                   w->stride_width, w->pad_width);
                const int8_t *pixel = input + y.begin * row_bytes + (size_t)x.begin * channels;
                for (uint32_t c = 0; c < channels; c += 4) {
                    /* The last four channels may overlap those before. */
                    const uint32_t at = c + 4 <= channels ? c : channels - 4;
                    const uint32_t largest = nst_smaller_bytes(
                        largest_of_four(pixel + at, y.end - y.begin, x.end - x.begin, channels,
                                        row_bytes, lows),
                        highs);
                    memcpy(output + at, &largest, sizeof largest);
                }
            }
        }
    }
}

#endif
