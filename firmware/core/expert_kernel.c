#include "expert_kernel.h"

#include <string.h>

#include "exponential.h"

/* x86's wheel must run on every processor, so wider vectors are chosen when the library is loaded.
 * Sanitizers are not ready yet at that time. */
#if defined(__x86_64__) && defined(__GNUC__) && defined(__linux__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define NST_VECTORISE __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define NST_VECTORISE
#endif

enum { LANES = 8, ALIGNMENT = 16 };

/* ---- activations ---- */

/* erfc(z) for z >= 0 as t P(t) exp(-z z) with t = 1 / (1 + 0.4 z). The polynomial is a minimax fit
 * of the relative error, 6e-8 for z <= 9.3; what float arithmetic adds is below 1e-6 where z < 3.5,
 * and the rounding of z z beyond. */
static inline float complement_of_error_function(float z) {
    const float t = 1.0f / (1.0f + 0.4f * z);
    float y = 3.983419305e-2f;
    y = y * t - 1.333306706e-1f;
    y = y * t + 6.934150116e-2f;
    y = y * t + 1.049782647e-1f;
    y = y * t + 6.780454907e-2f;
    y = y * t + 1.985782647e-1f;
    y = y * t + 2.005344907e-1f;
    y = y * t + 2.266368673e-1f;
    y = y * t + 2.256225957e-1f;
    return y * t * nst_exp(-z * z);
}

static inline float sigmoid(float x) {
    return 1.0f / (1.0f + nst_exp(-x));
}

NST_VECTORISE
void nst_expert_activate(uint32_t activation, float *x, uint32_t count) {
    switch (activation) {
        case NST_EXPERT_GELU:
            for (uint32_t i = 0; i < count; i++) {
                const float magnitude = x[i] < 0 ? -x[i] : x[i];
                const float z = magnitude * 0.70710678118654752f;
                const float tail = 0.5f * magnitude * complement_of_error_function(z);
                x[i] = (x[i] < 0 ? 0.0f : x[i]) - tail;
            }
            break;
        case NST_EXPERT_RELU:
            for (uint32_t i = 0; i < count; i++) {
                x[i] = x[i] < 0 ? 0.0f : x[i];
            }
            break;
        case NST_EXPERT_GELU_TANH:
            /* 0.5 (1 + tanh y) is the sigmoid of 2 y. */
            for (uint32_t i = 0; i < count; i++) {
                const float y = 0.79788456080286536f * (x[i] + 0.044715f * x[i] * x[i] * x[i]);
                x[i] *= sigmoid(2.0f * y);
            }
            break;
        default:
            for (uint32_t i = 0; i < count; i++) {
                x[i] *= sigmoid(x[i]);
            }
            break;
    }
}

/* ---- numbers ---- */

/* A half as a float, subnormal ones too. Infinities and what is no number become large numbers. */
static inline float from_half(uint16_t half) {
    uint32_t bits = (uint32_t)(half & 0x7FFFu) << 13;
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    value *= 5.192296858534828e33f; /* 2^112: the difference of the exponents' biases */
    memcpy(&bits, &value, sizeof bits);
    bits |= sign;
    memcpy(&value, &bits, sizeof value);
    return value;
}

NST_VECTORISE
void nst_expert_quantise(const float *x, uint32_t rows, uint32_t width, uint32_t group, int16_t *q,
                         float *scales) {
    const size_t groups = (size_t)rows * (width / group);
    for (size_t g = 0; g < groups; g++) {
        const float *from = x + g * group;
        int16_t *to = q + g * group;
        int32_t largest = 0;
        float scale;
        float divisor;
        /* Magnitudes of floats are ordered as their bits are. */
        for (uint32_t i = 0; i < group; i++) {
            int32_t bits;
            memcpy(&bits, &from[i], sizeof bits);
            bits &= 0x7FFFFFFF;
            largest = bits > largest ? bits : largest;
        }
        memcpy(&scale, &largest, sizeof scale);
        scale /= 127.0f;
        scales[g] = scale;
        divisor = scale > 0 ? scale : 1.0f;
        for (uint32_t i = 0; i < group; i++) {
            /* The sum's low bits are the rounded number: no float is converted, so none is out of
             * range. */
            const float shifted = from[i] / divisor + 12582912.0f; /* 1.5 * 2^23 */
            int32_t number;
            memcpy(&number, &shifted, sizeof number);
            number = (number & 0x7FFFFF) - 0x400000;
            number = number > 127 ? 127 : number;
            to[i] = (int16_t)(number < -127 ? -127 : number);
        }
    }
}

/* ---- products ---- */

/* A matrix, and what it is multiplied with: rows `tokens[i]` of the input, or i where it is null. */
typedef struct product {
    uint32_t rows;
    uint32_t columns;
    uint32_t group;
    const float *bias;     /* [rows] or null */
    const uint8_t *halves; /* f16 [rows][columns / group] */
    const uint8_t *high;   /* [rows][columns / 2] */
    const uint8_t *low;    /* the same, or null */
    const float *weights;  /* [rows][columns], f32 layers */
    nst_expert_input in;
    const uint32_t *tokens;
    uint32_t count;
    int16_t *row;      /* memory for one row of weights */
    float *row_scales; /* memory for its scales */
    float *out;        /* [count][rows] */
} product;

static inline uint32_t token_of(const product *p, uint32_t i) {
    return p->tokens != NULL ? p->tokens[i] : i;
}

/* Vectors in the C of gcc and clang, which also exist in pieces where the processor's are smaller.
 * Independent sums, added at the end, give the same bits everywhere. */
typedef float f32x8 __attribute__((vector_size(32)));
typedef int32_t i32x8 __attribute__((vector_size(32)));
typedef int16_t i16x8 __attribute__((vector_size(16)));
typedef uint8_t u8x8 __attribute__((vector_size(8)));

#define LOAD(vector, from) memcpy(&(vector), (from), sizeof(vector))

static inline float sum_of(const f32x8 *lanes) {
    float sums[LANES];
    memcpy(sums, lanes, sizeof sums);
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) +
           ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

static inline float dot(const float *a, const float *b, uint32_t count) {
    f32x8 even = {0};
    f32x8 odd = {0};
    float rest = 0.0f;
    uint32_t i = 0;
    for (; i + 2 * LANES <= count; i += 2 * LANES) {
        f32x8 x;
        f32x8 y;
        LOAD(x, a + i);
        LOAD(y, b + i);
        even += x * y;
        LOAD(x, a + i + LANES);
        LOAD(y, b + i + LANES);
        odd += x * y;
    }
    for (; i < count; i++) {
        rest += a[i] * b[i];
    }
    even += odd;
    return sum_of(&even) + rest;
}

NST_VECTORISE
static void multiply_floats(const product *p) {
    for (uint32_t r = 0; r < p->rows; r++) {
        const float *row = p->weights + (size_t)r * p->columns;
        const float bias = p->bias != NULL ? p->bias[r] : 0.0f;
        for (uint32_t i = 0; i < p->count; i++) {
            const float *x = p->in.x + (size_t)token_of(p, i) * p->columns;
            p->out[(size_t)i * p->rows + r] = dot(row, x, p->columns) + bias;
        }
    }
}

/* Scales of row `r` as floats. */
static inline void unpack_scales(const product *p, uint32_t r) {
    const size_t groups = p->columns / p->group;
    const uint8_t *from = p->halves + r * groups * sizeof(uint16_t);
    float *to = p->row_scales;
    for (size_t g = 0; g < groups; g++) {
        uint16_t half;
        memcpy(&half, from + 2 * g, sizeof half);
        to[g] = from_half(half);
    }
}

/* Eight bytes as the weights that they hold, -136..119: those in their low bits, those in their high
 * bits. Without `low`, 16 times the high halves. */
static inline void unpack_bytes(const uint8_t *high, const uint8_t *low, i16x8 *first,
                                i16x8 *second) {
    u8x8 bytes;
    i16x8 wide;
    LOAD(bytes, high);
    wide = __builtin_convertvector(bytes, i16x8);
    *first = ((wide & 15) - 8) * 16;
    *second = ((wide >> 4) - 8) * 16;
    if (low != NULL) {
        LOAD(bytes, low);
        wide = __builtin_convertvector(bytes, i16x8);
        *first += (wide & 15) - 8;
        *second += (wide >> 4) - 8;
    }
}

/* One row in memory, for groups of any size. */
static inline void unpack_row(const product *p, uint32_t r) {
    const uint32_t half = p->group / 2;
    const uint8_t *high = p->high + (size_t)r * (p->columns / 2);
    const uint8_t *low = p->low != NULL ? p->low + (size_t)r * (p->columns / 2) : NULL;
    for (uint32_t at = 0; at < p->columns / 2; at += half) {
        int16_t *to = p->row + (size_t)2 * at;
        uint32_t i = 0;
        for (; i + LANES <= half; i += LANES) {
            i16x8 first;
            i16x8 second;
            unpack_bytes(high + at + i, low != NULL ? low + at + i : NULL, &first, &second);
            memcpy(to + i, &first, sizeof first);
            memcpy(to + i + half, &second, sizeof second);
        }
        for (; i < half; i++) {
            to[i] = (int16_t)(((high[at + i] & 15) - 8) * 16);
            to[i + half] = (int16_t)(((high[at + i] >> 4) - 8) * 16);
            if (low != NULL) {
                to[i] = (int16_t)(to[i] + (low[at + i] & 15) - 8);
                to[i + half] = (int16_t)(to[i + half] + (low[at + i] >> 4) - 8);
            }
        }
    }
}

/* A row in memory times a token. Products of a weight and an activation fit in 16 bits. */
static inline float dot_groups(const int16_t *row, const float *row_scales, const int16_t *q,
                               const float *scales, uint32_t groups, uint32_t group) {
    f32x8 sums = {0};
    float rest = 0.0f;
    for (uint32_t g = 0; g < groups; g++) {
        const float scale = row_scales[g] * scales[g];
        i32x8 whole = {0};
        int32_t few = 0;
        uint32_t i = 0;
        for (; i + LANES <= group; i += LANES) {
            i16x8 w;
            i16x8 x;
            LOAD(w, row + i);
            LOAD(x, q + i);
            whole += __builtin_convertvector(w * x, i32x8);
        }
        for (; i < group; i++) {
            few += row[i] * q[i];
        }
        sums += __builtin_convertvector(whole, f32x8) * scale;
        rest += (float)few * scale;
        row += group;
        q += group;
    }
    return sum_of(&sums) + rest;
}

/* The same for a single token, unpacking as it goes; half a group is a multiple of 8. */
static inline float dot_packed(const uint8_t *high, const uint8_t *low, const float *row_scales,
                               const int16_t *q, const float *scales, uint32_t groups,
                               uint32_t group) {
    const uint32_t half = group / 2;
    f32x8 sums = {0};
    for (uint32_t g = 0; g < groups; g++) {
        i32x8 whole = {0};
        for (uint32_t i = 0; i < half; i += LANES) {
            i16x8 first;
            i16x8 second;
            i16x8 x;
            unpack_bytes(high + i, low != NULL ? low + i : NULL, &first, &second);
            LOAD(x, q + i);
            whole += __builtin_convertvector(first * x, i32x8);
            LOAD(x, q + half + i);
            whole += __builtin_convertvector(second * x, i32x8);
        }
        sums += __builtin_convertvector(whole, f32x8) * (row_scales[g] * scales[g]);
        high += half;
        low = low != NULL ? low + half : NULL;
        q += group;
    }
    return sum_of(&sums);
}

NST_VECTORISE
static void multiply_nibbles(const product *p) {
    const uint32_t groups = p->columns / p->group;
    const size_t row_bytes = p->columns / 2;
    const bool fused = p->count == 1 && p->group % (2 * LANES) == 0;
    for (uint32_t r = 0; r < p->rows; r++) {
        const float bias = p->bias != NULL ? p->bias[r] : 0.0f;
        unpack_scales(p, r);
        if (!fused) {
            unpack_row(p, r);
        }
        for (uint32_t i = 0; i < p->count; i++) {
            const size_t token = token_of(p, i);
            const int16_t *q = p->in.q + token * p->columns;
            const float *scales = p->in.scales + token * groups;
            float sum;
            if (!fused) {
                sum = dot_groups(p->row, p->row_scales, q, scales, groups, p->group);
            } else if (p->low != NULL) {
                sum = dot_packed(p->high + r * row_bytes, p->low + r * row_bytes, p->row_scales, q,
                                 scales, groups, p->group);
            } else {
                sum = dot_packed(p->high + r * row_bytes, NULL, p->row_scales, q, scales, groups,
                                 p->group);
            }
            p->out[(size_t)i * p->rows + r] = sum + bias;
        }
    }
}

static void multiply(const product *p) {
    if (p->group == 0) {
        multiply_floats(p);
    } else {
        multiply_nibbles(p);
    }
}

/* ---- an expert ---- */

/* Takes arrays one by one, each from a multiple of 16. */
typedef struct taker {
    const uint8_t *base;
    uint64_t used;
} taker;

static const uint8_t *take(taker *from, uint64_t bytes) {
    const uint8_t *array;
    from->used = (from->used + ALIGNMENT - 1) & ~(uint64_t)(ALIGNMENT - 1);
    array = from->base != NULL ? from->base + from->used : NULL;
    from->used += bytes;
    return array;
}

enum { GATE = 0, UP = 1, DOWN = 2, MATRICES = 3 };

/* Where the arrays of the expert lie in its slices: SPEC.md's order. */
static void find_arrays(const nst_expert_layer *layer, const void *high, const void *low,
                        product matrices[MATRICES]) {
    const uint64_t weights = (uint64_t)layer->dim * layer->hidden;
    const int first = (layer->flags & NST_EXPERT_GATED) != 0 ? GATE : UP;
    taker highs = {high, 0};
    taker lows = {low, 0};
    for (int m = first; m < MATRICES; m++) {
        product *p = &matrices[m];
        *p = (product){.rows = m == DOWN ? layer->dim : layer->hidden,
                       .columns = m == DOWN ? layer->hidden : layer->dim,
                       .group = layer->group};
        if (layer->group == 0) {
            p->weights = (const float *)(const void *)take(&highs, weights * sizeof(float));
        } else {
            p->halves =
                take(&highs, (uint64_t)p->rows * (p->columns / p->group) * sizeof(uint16_t));
            p->high = take(&highs, weights / 2);
            p->low = take(&lows, weights / 2);
        }
    }
    for (int m = first; m < MATRICES && (layer->flags & NST_EXPERT_BIASES) != 0; m++) {
        matrices[m].bias =
            (const float *)(const void *)take(&highs, matrices[m].rows * sizeof(float));
    }
}

/* Memory of one call. */
typedef struct workplace {
    float *gate;   /* [block][hidden] */
    float *hidden; /* the same */
    int16_t *q;    /* the same, quantised */
    float *scales;
    int16_t *row;
    float *row_scales;
} workplace;

static uint64_t share_out(const nst_expert_layer *layer, uint32_t block, void *scratch,
                          workplace *out) {
    const uint32_t widest = layer->hidden > layer->dim ? layer->hidden : layer->dim;
    const uint64_t hidden = (uint64_t)block * layer->hidden;
    taker memory = {scratch, 0};
    out->gate = (float *)(uintptr_t)take(&memory, hidden * sizeof(float));
    out->hidden = (float *)(uintptr_t)take(&memory, hidden * sizeof(float));
    if (layer->group != 0) {
        out->q = (int16_t *)(uintptr_t)take(&memory, hidden * sizeof(int16_t));
        out->scales = (float *)(uintptr_t)take(
            &memory, (uint64_t)block * (layer->hidden / layer->group) * sizeof(float));
        out->row = (int16_t *)(uintptr_t)take(&memory, (uint64_t)widest * sizeof(int16_t));
        out->row_scales =
            (float *)(uintptr_t)take(&memory, (uint64_t)(widest / layer->group) * sizeof(float));
    }
    return memory.used;
}

uint64_t nst_expert_scratch_bytes(const nst_expert_layer *layer, uint32_t count) {
    workplace unused = {0};
    return share_out(layer, count < NST_EXPERT_BLOCK ? count : NST_EXPERT_BLOCK, NULL, &unused);
}

NST_VECTORISE
static void multiply_into(float *to, const float *by, size_t count) {
    for (size_t i = 0; i < count; i++) {
        to[i] *= by[i];
    }
}

static void run_block(const nst_expert_layer *layer, product matrices[MATRICES],
                      const nst_expert_input *in, const uint32_t *tokens, uint32_t count,
                      const workplace *work, float *out) {
    const uint32_t units = count * layer->hidden;
    const bool gated = (layer->flags & NST_EXPERT_GATED) != 0;
    for (int m = gated ? GATE : UP; m < MATRICES; m++) {
        product *p = &matrices[m];
        p->count = count;
        p->row = work->row;
        p->row_scales = work->row_scales;
        p->in = *in;
        p->tokens = tokens;
        p->out = m == UP ? work->hidden : m == GATE ? work->gate : out;
        if (m == DOWN) {
            p->in = (nst_expert_input){work->hidden, work->q, work->scales};
            p->tokens = NULL;
            if (layer->group != 0) {
                nst_expert_quantise(work->hidden, count, layer->hidden, layer->group, work->q,
                                    work->scales);
            }
        }
        multiply(p);
        if (m == GATE || (m == UP && !gated)) {
            nst_expert_activate(layer->activation, p->out, units);
        } else if (m == UP) {
            multiply_into(work->hidden, work->gate, units);
        }
    }
}

void nst_expert_run(const nst_expert_layer *layer, const void *high, const void *low,
                    const nst_expert_input *in, const uint32_t *tokens, uint32_t count,
                    void *scratch, float *out) {
    product matrices[MATRICES];
    workplace work = {0};
    find_arrays(layer, high, low, matrices);
    (void)share_out(layer, count < NST_EXPERT_BLOCK ? count : NST_EXPERT_BLOCK, scratch, &work);
    for (uint32_t begin = 0; begin < count; begin += NST_EXPERT_BLOCK) {
        const uint32_t rest = count - begin;
        const uint32_t block = rest < NST_EXPERT_BLOCK ? rest : NST_EXPERT_BLOCK;
        run_block(layer, matrices, in, tokens + begin, block, &work,
                  out + (size_t)begin * layer->dim);
    }
}

void nst_expert_predict(const nst_expert_layer *layer, uint32_t predicted_experts, const float *x,
                        uint32_t tokens, float *out) {
    const product p = {.rows = predicted_experts,
                       .columns = layer->dim,
                       .bias = layer->predictor + (size_t)predicted_experts * layer->dim,
                       .weights = layer->predictor,
                       .in = {.x = x},
                       .count = tokens,
                       .out = out};
    multiply_floats(&p);
}
