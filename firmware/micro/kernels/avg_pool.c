#include "micro/kernels/avg_pool.h"

#include "micro/kernels/avg_pool_mean.h"
#include "micro/kernels/float_order.h"
#include "micro/kernels/variant.h"

static bool check(const void *params, const uint32_t *tensor_bytes, uint32_t scratch_bytes) {
    (void)scratch_bytes;
    const nst_avg_pool_params *p = params;
    const nst_window_params *w = &p->window;
    const uint32_t area[2] = {w->kernel_height, w->kernel_width};
    return nst_window_ok(w, tensor_bytes[0], tensor_bytes[1]) &&
           nst_fits(area, 2, NST_AVG_POOL_LARGEST) && nst_is_int8(p->zero_point) &&
           nst_is_scale(p->scale);
}

static uint32_t scratch_bytes(const void *params) {
    (void)params;
    return 0;
}

const nst_operator nst_operator_avg_pool = {
    .name = "quantized_avg_pool2d",
    .params_bytes = sizeof(nst_avg_pool_params),
    .tensors = 2,
    .check = check,
    .scratch_bytes = scratch_bytes,
    .run = nst_avg_pool_run,
};

int8_t nst_avg_pool_float_mean(const nst_avg_pool_window *window, const int8_t *first,
                               int32_t zero_point, float scale) {
    float sum = 0.0f;
    for (uint32_t y = 0; y < window->rows; ++y) {
        const int8_t *value = first + y * window->row_bytes;
        for (uint32_t x = 0; x < window->columns; ++x, value += window->channels) {
            sum += (float)(*value - zero_point) * scale;
        }
    }
    const float mean = sum / (float)(window->rows * window->columns);
    return nst_round_to_int8(mean / scale, zero_point, INT8_MIN, INT8_MAX);
}

static int8_t mean_of(const nst_avg_pool_params *p, const nst_avg_pool_window *window,
                      const int8_t *first) {
    int32_t sum = 0;
    for (uint32_t y = 0; y < window->rows; ++y) {
        const int8_t *value = first + y * window->row_bytes;
        for (uint32_t x = 0; x < window->columns; ++x, value += window->channels) {
            sum += *value;
        }
    }
    const int32_t count = (int32_t)(window->rows * window->columns);
    return nst_avg_pool_mean(window, first, sum - count * p->zero_point, p->zero_point, p->scale);
}

void nst_avg_pool_portable(const void *params, void *const *tensors, void *scratch) {
    (void)scratch;
    const nst_avg_pool_params *p = params;
    int8_t *output = tensors[1];
    nst_avg_pool_walk walk = {0};
    do {
        const nst_avg_pool_window window = nst_avg_pool_window_at(&p->window, &walk);
        const int8_t *first = (const int8_t *)tensors[0] + window.offset;
        for (uint32_t c = 0; c < p->window.channels; ++c) {
            *output++ = mean_of(p, &window, first + c);
        }
    } while (nst_avg_pool_next(&p->window, &walk));
}

#if !NST_MVE_FLOAT && !NST_DSP

void nst_avg_pool_run(const void *params, void *const *tensors, void *scratch) {
    nst_avg_pool_portable(params, tensors, scratch);
}

#endif
