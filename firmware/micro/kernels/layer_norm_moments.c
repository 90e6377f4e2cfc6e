#include "micro/kernels/layer_norm_moments.h"

#include <math.h>
#include <string.h>

#include "micro/kernels/float_order.h"
#include "micro/kernels/variant.h"

#define LANES NST_LAYER_NORM_LANES
#define CHUNK NST_LAYER_NORM_CHUNK

const float nst_layer_norm_weights[CHUNK] = {
    1.0f,         1.0f / 2.0f,  1.0f / 3.0f,  1.0f / 4.0f,  1.0f / 5.0f,  1.0f / 6.0f,
    1.0f / 7.0f,  1.0f / 8.0f,  1.0f / 9.0f,  1.0f / 10.0f, 1.0f / 11.0f, 1.0f / 12.0f,
    1.0f / 13.0f, 1.0f / 14.0f, 1.0f / 15.0f, 1.0f / 16.0f,
};

/* Adds the moments of other values to those of `sum`, part by part (Chan, Golub and LeVeque,
 * 1979). */
static void merge(nst_moments *sum, const nst_moments *other) {
    const uint32_t count = sum->count + other->count;
    const float weight = count == 0 ? 0.0f : (float)other->count / (float)count;
    for (uint32_t i = 0; i < LANES; ++i) {
        const float delta = other->mean[i] - sum->mean[i];
        const float step = weight * delta;
        sum->squares[i] =
            fmaf(delta * (float)sum->count, step, sum->squares[i] + other->squares[i]);
        sum->mean[i] += step;
    }
    sum->count = count;
}

/* Correctly rounded everywhere. The instruction by name: compilers add a call that sets errno. */
static float square_root(float value) {
#if defined(__ARM_FP) && (__ARM_FP & 4)
    __asm__("vsqrt.f32 %0, %0" : "+t"(value));
    return value;
#else
    return sqrtf(value);
#endif
}

static uint32_t depth_of(uint32_t chunks) {
    uint32_t depth = 0;
    while ((1u << depth) < chunks) {
        ++depth;
    }
    return depth;
}

/* The moments of all whole vectors of a row: chunks are added pairwise, as a binary counter
 * carries. */
static nst_moments vectors_of(const nst_layer_norm_params *p, const int8_t *row, uint32_t vectors) {
    nst_moments levels[NST_LAYER_NORM_DEPTH + 1];
    const uint32_t chunks = (vectors + CHUNK - 1) / CHUNK;
    const uint32_t depth = depth_of(chunks);
    if (chunks == 1) { /* adding it to nothing changes nothing */
        nst_layer_norm_chunk(p, row, vectors, &levels[0]);
        return levels[0];
    }
    memset(levels, 0, (depth + 1) * sizeof levels[0]);
    for (uint32_t i = 0; i < chunks; ++i) {
        const uint32_t left = vectors - i * CHUNK;
        nst_moments chunk;
        nst_layer_norm_chunk(p, row + i * CHUNK * LANES, left < CHUNK ? left : CHUNK, &chunk);
        merge(&levels[0], &chunk);
        uint32_t carry = i + 1;
        for (uint32_t level = 1; level < depth && (carry & 1) == 0; ++level, carry >>= 1) {
            merge(&levels[level], &levels[level - 1]);
            memset(&levels[level - 1], 0, sizeof levels[0]);
        }
    }
    for (uint32_t level = 1; level < depth; ++level) {
        merge(&levels[0], &levels[level]);
    }
    return levels[0];
}

nst_row_moments nst_layer_norm_row(const nst_layer_norm_params *p, const int8_t *row) {
    const uint32_t vectors = p->columns / LANES;
    const nst_moments parts = vectors_of(p, row, vectors);
    float mean = 0.0f;
    float squares = 0.0f;
    uint32_t count = 0;
    for (uint32_t i = vectors * LANES; i < p->columns; ++i) { /* what fills no vector */
        const float x = (float)(row[i] - p->input_zero_point) * p->input_scale;
        const float delta = x - mean;
        mean += delta / (float)++count;
        squares += delta * (x - mean);
    }
    for (uint32_t i = 0; i < LANES; ++i) {
        const uint32_t both = count + vectors;
        const float weight = both == 0 ? 0.0f : (float)vectors / (float)both;
        const float delta = parts.mean[i] - mean;
        mean = fmaf(weight, delta, mean);
        squares += fmaf(delta * delta * weight, (float)count, parts.squares[i]);
        count = both;
    }
    const float variance = squares / (float)p->columns;
    return (nst_row_moments){mean,
                             1.0f / square_root((variance < 0.0f ? 0.0f : variance) + p->epsilon)};
}

#if !NST_MVE_FLOAT

void nst_layer_norm_chunk(const nst_layer_norm_params *p, const int8_t *values, uint32_t vectors,
                          nst_moments *out) {
    const int32_t zero_point = p->input_zero_point;
    const float scale = p->input_scale;
    out->count = vectors;
    for (uint32_t i = 0; i < LANES; ++i) {
        float mean = 0.0f;
        float squares = 0.0f;
        for (uint32_t v = 0; v < vectors; ++v) {
            const float x = (float)(values[v * LANES + i] - zero_point) * scale;
            const float delta = x - mean;
            mean = fmaf(delta, nst_layer_norm_weights[v], mean);
            squares = fmaf(delta, x - mean, squares);
        }
        out->mean[i] = mean;
        out->squares[i] = squares;
    }
}

#endif
