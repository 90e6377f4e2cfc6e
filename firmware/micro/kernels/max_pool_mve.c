/* max_pool with MVE: sixteen channels of a window at a time, held in a register. */
#include "micro/kernels/max_pool.h"
#include "micro/kernels/variant.h"

#if NST_MVE

/* Up to 16 channels of one window: `step` bytes from pixel to pixel, `skip` more from row to row.
 */
static void largest_of(const nst_max_pool_params *p, const int8_t *pixel, uint32_t rows,
                       uint32_t columns, size_t skip, uint32_t channels, int8_t *output) {
    __asm__ volatile(
        "   vctp.8 %[channels]\n"
        "   vdup.8 q0, %[low]\n"
        "1: dls lr, %[columns]\n"
        "2: vpst\n"
        "   vldrbt.8 q1, [%[pixel]]\n"
        "   vmax.s8 q0, q0, q1\n"
        "   add %[pixel], %[pixel], %[step]\n"
        "   le lr, 2b\n"
        "   add %[pixel], %[pixel], %[skip]\n"
        "   subs %[rows], %[rows], #1\n"
        "   bne 1b\n"
        "   vdup.8 q1, %[high]\n"
        "   vmin.s8 q0, q0, q1\n"
        "   vpst\n"
        "   vstrbt.8 q0, [%[output]]\n"
        : [pixel] "+r"(pixel), [rows] "+r"(rows)
        : [columns] "r"(columns), [step] "r"(p->window.channels), [skip] "r"(skip),
          [channels] "r"(channels), [low] "r"(p->activation_min), [high] "r"(p->activation_max),
          [output] "r"(output)
        : "q0", "q1", "lr", "cc", "memory");
}

void nst_max_pool_run(const void *params, void *const *tensors, void *scratch) {
    (void)scratch;
    const nst_max_pool_params *p = params;
    const nst_window_params *w = &p->window;
    const size_t channels = w->channels;
    const size_t row_bytes = w->input_width * channels;
    const int8_t *input = tensors[0];
    int8_t *output = tensors[1];
    for (uint32_t b = 0; b < w->batches; ++b, input += w->input_height * row_bytes) {
        for (uint32_t oy = 0; oy < w->output_height; ++oy) {
            const nst_span y = nst_window_span(oy, w->input_height, w->kernel_height,
                                               w->stride_height, w->pad_height);
            for (uint32_t ox = 0; ox < w->output_width; ++ox, output += channels) {
                const nst_span x = nst_window_span(ox, w->input_width, w->kernel_width,
                                                   w->stride_width, w->pad_width);
                const uint32_t columns = x.end - x.begin;
                const int8_t *first = input + y.begin * row_bytes + x.begin * channels;
                for (uint32_t c = 0; c < channels; c += 16) {
                    largest_of(p, first + c, y.end - y.begin, columns,
                               row_bytes - columns * channels, (uint32_t)channels - c, output + c);
                }
            }
        }
    }
}

#endif
