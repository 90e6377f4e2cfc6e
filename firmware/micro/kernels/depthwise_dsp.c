#include "micro/kernels/depthwise.h"
#include "micro/kernels/variant.h"

#if NST_DSP

#include "micro/kernels/depthwise_dsp.h"
#include "micro/kernels/scale_dsp.h"

/* Loops that would be short of registers inside of their callers. */
#define OUT_OF_LINE static __attribute__((noinline))

/* What a line needs of one channel; the functions in depthwise_dsp.S know where each field is. */
typedef struct line_channel {
    int32_t doubled_bias;
    int32_t multiplier;
    /* NST_SCALING_TWICE: the doubled second multiplier, the output's zero point.
     * NST_SCALING_SHIFT with a right shift n of 1 to 22: (zero point << n) + half of what n
     * drops, n. */
    int32_t third;
    int32_t fourth;
    uint32_t taps[]; /* pairs, line by line */
} line_channel;

/* `count` outputs of one channel, `output_step` bytes apart. */
typedef void line_function(const uint32_t *line, uint32_t line_bytes, const line_channel *channel,
                           int8_t *output, uint32_t output_step, uint32_t count);

/* Kernels of 3 x 3, by stride and scaling. Taps of a line: the pairs (0, 1) and (1, 2). */
line_function nst_dsp_line_stride_1_twice;
line_function nst_dsp_line_stride_1_shift;
line_function nst_dsp_line_stride_2_twice;
line_function nst_dsp_line_stride_2_shift;

static line_function *line_function_of(const nst_dsp_lines *lines, nst_scaling scaling) {
    const uint32_t stride = lines->along.stride;
    if (lines->along.kernel != 3 || lines->across.kernel != 3 || stride > 2) {
        return NULL;
    }
    if (scaling == NST_SCALING_TWICE) {
        return stride == 1 ? nst_dsp_line_stride_1_twice : nst_dsp_line_stride_2_twice;
    }
    return stride == 1 ? nst_dsp_line_stride_1_shift : nst_dsp_line_stride_2_shift;
}

/* The four channels at `pixel`, or as many as there are. */
static inline uint32_t load_channels(const int8_t *pixel, uint32_t count) {
    if (count == 4) {
        return nst_load_word(pixel);
    }
    uint32_t word = 0;
    for (uint32_t i = 0; i < count; ++i) {
        word |= (uint32_t)(uint8_t)pixel[i] << (8 * i);
    }
    return word;
}

/* Two neighbours of four channels, to one word of each plane. */
static inline void store_pair(uint32_t *at, uint32_t plane_words, uint32_t first, uint32_t second) {
    const uint32_t first_even = nst_even_bytes(first);
    const uint32_t first_odd = nst_odd_bytes(first);
    const uint32_t second_even = nst_even_bytes(second);
    const uint32_t second_odd = nst_odd_bytes(second);
    at[0] = nst_low_halves(first_even, second_even);
    at[plane_words] = nst_low_halves(first_odd, second_odd);
    at[2 * plane_words] = nst_high_halves(first_even, second_even);
    at[3 * plane_words] = nst_high_halves(first_odd, second_odd);
}

/* One line of the input, or of padding where `line` is null, to a line of each plane. `padding`:
 * four zero points. */
static inline void spread_line(const nst_dsp_lines *lines, const int8_t *line, uint32_t channels,
                               uint32_t padding, uint32_t *at) {
    const uint32_t plane_words = (uint32_t)lines->plane_words;
    const uint32_t step = lines->along.input_step;
    const int32_t size = line != NULL ? (int32_t)lines->along.input : 0;
    uint32_t *const end = at + lines->line_words;
    int32_t position = -(int32_t)lines->along.pad;
    for (; at < end && (position < 0 || size == 0); position += 2) {
        const bool second = position == -1 && size > 0;
        store_pair(at++, plane_words, padding, second ? load_channels(line, channels) : padding);
    }
    const int8_t *pixel = line != NULL ? line + position * (int32_t)step : NULL;
    for (; at < end && position + 1 < size; position += 2, pixel += 2 * step) {
        const uint32_t first = load_channels(pixel, channels);
        store_pair(at++, plane_words, first, load_channels(pixel + step, channels));
    }
    for (; at < end; position += 2, pixel += 2 * step) {
        const uint32_t first = position < size ? load_channels(pixel, channels) : padding;
        store_pair(at++, plane_words, first, padding);
    }
}

OUT_OF_LINE void spread_lines(const nst_dsp_lines *lines, const int8_t *image, uint32_t channels,
                              uint32_t padding, int32_t first, uint32_t count, uint32_t *at) {
    for (uint32_t i = 0; i < count; ++i, at += lines->line_words) {
        const int32_t position = first + (int32_t)i;
        const bool inside = position >= 0 && position < (int32_t)lines->across.input;
        const int8_t *line = inside ? image + (uint32_t)position * lines->across.input_step : NULL;
        if (channels == 4) {
            spread_line(lines, line, 4, padding, at);
        } else {
            spread_line(lines, line, channels, padding, at);
        }
    }
}

/* Pairs of taps: (0, 1), (2, 3), ... with a 0 where there is none. */
OUT_OF_LINE void load_taps(const nst_dsp_lines *lines, const int8_t *weights, uint32_t *taps) {
    const uint32_t kernel = lines->along.kernel;
    const uint32_t step = lines->along.tap_step;
    for (uint32_t y = 0; y < lines->across.kernel; ++y, weights += lines->across.tap_step) {
        for (uint32_t x = 0; x < kernel; x += 2) {
            const uint32_t second = x + 1 < kernel ? (uint32_t)weights[(x + 1) * step] : 0;
            *taps++ = nst_low_halves((uint32_t)weights[x * step], second);
        }
    }
}

/* The pairs (0, 1) and (1, 2) of each line of 3 x 3. */
static void load_nine_taps(const nst_dsp_lines *lines, const int8_t *weights, uint32_t *taps) {
    const uint32_t step = lines->along.tap_step;
    for (uint32_t y = 0; y < 3; ++y, weights += lines->across.tap_step) {
        const uint32_t middle = (uint32_t)weights[step];
        *taps++ = nst_low_halves((uint32_t)weights[0], middle);
        *taps++ = nst_low_halves(middle, (uint32_t)weights[2 * step]);
    }
}

/* The sum of one output, which begins at `position`. */
OUT_OF_LINE int32_t sum_of_taps(const nst_dsp_lines *lines, const int8_t *position,
                                const uint32_t *taps) {
    const uint32_t line_bytes = (uint32_t)lines->line_words * lines->across.dilation * 4;
    const uint32_t kernel = lines->along.kernel;
    int32_t sum = 0;
    for (uint32_t y = lines->across.kernel; y > 0; --y, position += line_bytes) {
        for (uint32_t x = 0; x < kernel; x += 2) {
            sum = nst_two_products(nst_load_word(position + 2 * x), *taps++, sum);
        }
    }
    return sum;
}

/* The sums of four neighbouring outputs, the first of which begins at `position`. */
OUT_OF_LINE void sums_of_taps(const nst_dsp_lines *lines, const int8_t *position,
                              const uint32_t *taps, int32_t *sums) {
    const uint32_t line_bytes = (uint32_t)lines->line_words * lines->across.dilation * 4;
    const uint32_t step = 2 * lines->along.stride;
    const uint32_t pairs = (lines->along.kernel + 1) / 2;
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (uint32_t y = lines->across.kernel; y > 0; --y, position += line_bytes) {
        const int8_t *first = position;
        for (uint32_t x = pairs; x > 0; --x, first += 4) {
            const uint32_t pair = *taps++;
            const int8_t *third = first + 2 * step;
            s0 = nst_two_products(nst_load_word(first), pair, s0);
            s1 = nst_two_products(nst_load_word(first + step), pair, s1);
            s2 = nst_two_products(nst_load_word(third), pair, s2);
            s3 = nst_two_products(nst_load_word(third + step), pair, s3);
        }
    }
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}

/* A line of outputs of any kernel. */
OUT_OF_LINE void run_line(const nst_dsp_lines *lines, const uint32_t *line, const uint32_t *taps,
                          nst_channel channel, const nst_depthwise_params *p, int8_t *output) {
    const int8_t *position = (const int8_t *)line;
    const uint32_t step = lines->along.output_step;
    for (uint32_t left = lines->along.output; left > 0;) {
        int32_t sums[4];
        const uint32_t count = left >= 4 ? 4 : 1;
        if (count == 4) {
            sums_of_taps(lines, position, taps, sums);
        } else {
            sums[0] = sum_of_taps(lines, position, taps);
        }
        for (uint32_t i = 0; i < count; ++i, output += step) {
            *output = p->scaling == NST_SCALING_TWICE
                          ? nst_dsp_twice(2 * sums[i], channel, p->output_zero_point)
                          : nst_dsp_shift(2 * sums[i], channel, p->output_zero_point);
        }
        position += 2 * count * lines->along.stride;
        left -= count;
    }
}

/* False where the functions in assembly cannot scale like this channel. */
static bool prepare(const nst_depthwise_params *p, nst_channel channel, line_channel *prepared) {
    prepared->doubled_bias = channel.bias * 2;
    prepared->multiplier = channel.multiplier;
    if (p->scaling == NST_SCALING_TWICE) {
        prepared->third = channel.scale * 2;
        prepared->fourth = p->output_zero_point;
        return true;
    }
    if (channel.scale < -22 || channel.scale > -1) {
        return false;
    }
    const int32_t n = -channel.scale;
    prepared->third = p->output_zero_point * (1 << n) + (1 << (n - 1));
    prepared->fourth = n;
    return true;
}

/* `count` lines of outputs of channel `c` from its plane. */
OUT_OF_LINE void run_channel(const nst_depthwise_params *p, const nst_dsp_lines *lines,
                             line_function *fast, void *const *tensors, uint32_t c,
                             const uint32_t *plane, uint32_t count, int8_t *output,
                             line_channel *prepared) {
    const nst_channel channel = ((const nst_channel *)tensors[2])[c];
    const int8_t *weights = (const int8_t *)tensors[1] + c;
    const uint32_t line_words = (uint32_t)lines->line_words;
    const uint32_t plane_step = line_words * lines->across.stride;
    const uint32_t output_step = lines->across.output_step;
    if (fast == NULL || !prepare(p, channel, prepared)) {
        load_taps(lines, weights, prepared->taps);
        for (; count > 0; --count, plane += plane_step, output += output_step) {
            run_line(lines, plane, prepared->taps, channel, p, output);
        }
        return;
    }
    load_nine_taps(lines, weights, prepared->taps);
    const uint32_t line_bytes = line_words * lines->across.dilation * 4;
    const uint32_t step = lines->along.output_step;
    const uint32_t outputs = lines->along.output;
    for (; count > 0; --count, plane += plane_step, output += output_step) {
        fast(plane, line_bytes, prepared, output, step, outputs);
    }
}

/* One image, the channels from `first` on: four, or all if there are fewer. The first `skip` of
 * them are done already. */
static void run_channels(const nst_depthwise_params *p, const nst_dsp_lines *lines,
                         line_function *fast, void *const *tensors, const int8_t *image,
                         int8_t *output, uint32_t first, uint32_t skip, uint32_t *planes) {
    const uint32_t channels = p->input_channels < 4 ? p->input_channels : 4;
    const uint32_t padding = (uint8_t)p->input_zero_point * 0x01010101u;
    const uint32_t plane_words = (uint32_t)lines->plane_words;
    const nst_dsp_side *across = &lines->across;
    line_channel *prepared = (line_channel *)(planes + 4 * plane_words);
    for (uint32_t done = 0; done < across->output; done += (uint32_t)lines->strip_lines) {
        const uint32_t left = across->output - done;
        const uint32_t count = left < lines->strip_lines ? left : (uint32_t)lines->strip_lines;
        spread_lines(lines, image + first, channels, padding,
                     (int32_t)(done * across->stride) - (int32_t)across->pad,
                     (count - 1) * across->stride + (across->kernel - 1) * across->dilation + 1,
                     planes);
        for (uint32_t i = skip; i < channels; ++i) {
            run_channel(p, lines, fast, tensors, first + i, planes + i * plane_words, count,
                        output + first + i + done * across->output_step, prepared);
        }
    }
}

void nst_depthwise_run(const void *params, void *const *tensors, void *scratch) {
    const nst_depthwise_params *p = params;
    nst_dsp_lines lines;
    if (p->layout != NST_LAYOUT_DSP || !nst_dsp_lines_of(p, &lines)) {
        nst_depthwise_portable(params, tensors, scratch);
        return;
    }
    line_function *fast = line_function_of(&lines, (nst_scaling)p->scaling);
    const uint32_t channels = p->input_channels;
    const uint32_t image_bytes = p->input_height * p->input_width * channels;
    const uint32_t output_bytes = p->output_height * p->output_width * channels;
    const int8_t *image = tensors[0];
    int8_t *output = tensors[3];
    for (uint32_t batch = 0; batch < p->batches; ++batch) {
        for (uint32_t c = 0; c < channels; c += 4) {
            /* The last four channels may overlap those before: no load reads past the image. */
            const uint32_t first = c + 4 <= channels || channels < 4 ? c : channels - 4;
            run_channels(p, &lines, fast, tensors, image, output, first, c - first, scratch);
        }
        image += image_bytes;
        output += output_bytes;
    }
    nst_dsp_clamp(tensors[3], p->batches * output_bytes, p->activation_min, p->activation_max);
}

#endif
