#include "expert_flash_scene.h"

#include <string.h>

#include "crc.h"
#include "expert_flash.h"
#include "expert_kernel.h"
#include "exponential.h"

/* Layer 0 keeps f32, layer 1 nibbles; both gated, with silu. */
#define LAYERS 2u
#define EXPERTS 6u
#define TOP_K 2u
#define DIM 16u
#define HIDDEN 32u
#define GROUP 8u
#define MATRICES 3u
#define WEIGHTS (DIM * HIDDEN) /* of a matrix */
#define MOST_TOKENS 4u
#define CALLS 60u
#define F16_SCALE 0x2000u /* 2^-7 */
#define SCALE 0x1p-7f

#define FLOAT_BYTES (MATRICES * WEIGHTS * 4u)
#define HIGH_BYTES (MATRICES * (WEIGHTS / GROUP * 2u + WEIGHTS / 2u))
#define LOW_BYTES (MATRICES * WEIGHTS / 2u)
#define SLICE_TABLE (NST_EXPERTS_HEADER_BYTES + LAYERS * NST_EXPERT_LAYER_BYTES)
#define INDEX_BYTES (SLICE_TABLE + LAYERS * EXPERTS * 2u * NST_EXPERT_SLICE_BYTES)

typedef struct play {
    scene_result result;
    uint32_t random;
    uint32_t reads_left; /* of the flash; then it fails */
    uint32_t size[2];    /* of each section */
} play;

static _Alignas(64) uint8_t index_bytes[INDEX_BYTES];
static _Alignas(64) uint8_t sections[2][EXPERTS * (FLOAT_BYTES + HIGH_BYTES)];
static float weights[LAYERS][EXPERTS][MATRICES][WEIGHTS]; /* exact, for the plain loops */
static float high_weights[EXPERTS][MATRICES][WEIGHTS];    /* of layer 1 at 4 bits */
static _Alignas(16) uint8_t memory[96u << 10];

#define CHECK(condition) check(&(scene)->result, (condition), __LINE__)

static void check(scene_result *result, bool holds, uint32_t line) {
    if (!holds && result->failures++ == 0) {
        result->first_line = line;
    }
}

static uint32_t draw(play *scene) {
    scene->random = scene->random * 1664525u + 1013904223u;
    return scene->random >> 8;
}

/* -1 to 1. */
static float draw_float(play *scene) {
    return (float)(int32_t)(draw(scene) % 2001u) / 1000.0f - 1.0f;
}

static void put32(uint8_t *to, uint32_t value) {
    for (uint32_t i = 0; i < 4; i++) {
        to[i] = (uint8_t)(value >> 8 * i);
    }
}

static void put_layer(uint32_t layer) {
    uint8_t *to = index_bytes + NST_EXPERTS_HEADER_BYTES + layer * NST_EXPERT_LAYER_BYTES;
    const uint32_t fields[] = {DIM,
                               HIDDEN,
                               EXPERTS,
                               TOP_K,
                               layer * EXPERTS,
                               layer == 0 ? NST_EXPERT_F32 : NST_EXPERT_NIBBLES,
                               layer == 0 ? 0 : GROUP,
                               NST_EXPERT_SILU,
                               NST_EXPERT_GATED | (layer == 0 ? 0 : NST_EXPERT_RENORMALISE),
                               NST_NONE,
                               0};
    for (uint32_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        put32(to + 4 * i, fields[i]);
    }
}

/* Enter what was just written behind a section's end into the slice table. */
static void put_slice(play *scene, uint32_t expert, uint32_t slice, uint32_t bytes) {
    uint8_t *to = index_bytes + SLICE_TABLE + (expert * 2 + slice) * NST_EXPERT_SLICE_BYTES;
    if (bytes == 0) {
        return;
    }
    put32(to, scene->size[slice]);
    put32(to + 8, bytes);
    put32(to + 12, nst_crc32(0, sections[slice] + scene->size[slice], bytes));
    scene->size[slice] += (bytes + 63u) / 64u * 64u;
}

static void write_floats(play *scene, uint32_t expert) {
    uint8_t *to = sections[0] + scene->size[0];
    for (uint32_t matrix = 0; matrix < MATRICES; matrix++) {
        for (uint32_t i = 0; i < WEIGHTS; i++) {
            float weight = draw_float(scene) * 0.5f;
            weights[0][expert][matrix][i] = weight;
            memcpy(to + (matrix * WEIGHTS + i) * 4, &weight, 4);
        }
    }
    put_slice(scene, expert, 0, FLOAT_BYTES);
    put_slice(scene, expert, 1, 0);
}

static void write_nibbles(play *scene, uint32_t expert) {
    uint8_t *high = sections[0] + scene->size[0];
    uint8_t *low = sections[1] + scene->size[1];
    memset(high, 0, HIGH_BYTES);
    memset(low, 0, LOW_BYTES);
    for (uint32_t matrix = 0; matrix < MATRICES; matrix++) {
        for (uint32_t i = 0; i < WEIGHTS / GROUP; i++) {
            high[2 * i] = F16_SCALE & 0xFFu;
            high[2 * i + 1] = F16_SCALE >> 8;
        }
        high += WEIGHTS / GROUP * 2;
        for (uint32_t i = 0; i < WEIGHTS; i++) {
            int32_t q = (int32_t)(draw(scene) % 239u) - 119;
            int32_t top = (q + 128 + 8) / 16 - 8;
            uint32_t byte = i / GROUP * (GROUP / 2) + i % (GROUP / 2);
            uint32_t shift = i % GROUP < GROUP / 2 ? 0 : 4;
            high[byte] |= (uint8_t)((uint32_t)(top + 8) << shift);
            low[byte] |= (uint8_t)((uint32_t)(q - 16 * top + 8) << shift);
            weights[1][expert][matrix][i] = SCALE * (float)q;
            high_weights[expert][matrix][i] = SCALE * 16.0f * (float)top;
        }
        high += WEIGHTS / 2;
        low += WEIGHTS / 2;
    }
    put_slice(scene, EXPERTS + expert, 0, HIGH_BYTES);
    put_slice(scene, EXPERTS + expert, 1, LOW_BYTES);
}

static void write_experts(play *scene) {
    memset(index_bytes, 0, sizeof index_bytes);
    scene->size[0] = 0;
    scene->size[1] = 0;
    for (uint32_t expert = 0; expert < EXPERTS; expert++) {
        write_floats(scene, expert);
    }
    for (uint32_t expert = 0; expert < EXPERTS; expert++) {
        write_nibbles(scene, expert);
    }
    put32(index_bytes, NST_EXPERTS_MAGIC);
    put32(index_bytes + 4, NST_EXPERTS_VERSION | 2u << 16);
    put32(index_bytes + 8, LAYERS);
    put32(index_bytes + 12, LAYERS * EXPERTS);
    put32(index_bytes + 16, (FLOAT_BYTES + 63u) / 64u * 64u);
    put32(index_bytes + 20, NST_EXPERTS_HEADER_BYTES);
    put32(index_bytes + 24, SLICE_TABLE);
    put32(index_bytes + 28, INDEX_BYTES);
    put_layer(0);
    put_layer(1);
    scene->result.flash_bytes = scene->size[0] + scene->size[1];
}

/* x as the nibbles' arithmetic sees it, group by group. */
static void round_groups(float *x, uint32_t count) {
    for (uint32_t first = 0; first < count; first += GROUP) {
        float largest = 0.0f;
        for (uint32_t i = first; i < first + GROUP; i++) {
            float size = x[i] < 0 ? -x[i] : x[i];
            largest = size > largest ? size : largest;
        }
        for (uint32_t i = first; i < first + GROUP && largest > 0; i++) {
            float scaled = x[i] / (largest / 127.0f);
            x[i] = ((scaled + 12582912.0f) - 12582912.0f) * (largest / 127.0f);
        }
    }
}

static void multiply(const float *matrix, const float *x, uint32_t rows, uint32_t columns,
                     float *out) {
    for (uint32_t row = 0; row < rows; row++) {
        out[row] = 0.0f;
        for (uint32_t i = 0; i < columns; i++) {
            out[row] += matrix[row * columns + i] * x[i];
        }
    }
}

/* One expert on one token, added to `out`. */
static void add_expert(float (*matrices)[WEIGHTS], bool nibbles, const float *token, float weight,
                       float *out) {
    float x[DIM];
    float gate[HIDDEN];
    float up[HIDDEN];
    float down[DIM];
    memcpy(x, token, sizeof x);
    if (nibbles) {
        round_groups(x, DIM);
    }
    multiply(matrices[0], x, HIDDEN, DIM, gate);
    multiply(matrices[1], x, HIDDEN, DIM, up);
    for (uint32_t i = 0; i < HIDDEN; i++) {
        up[i] *= gate[i] / (1.0f + nst_exp(-gate[i]));
    }
    if (nibbles) {
        round_groups(up, HIDDEN);
    }
    multiply(matrices[2], up, DIM, HIDDEN, down);
    for (uint32_t i = 0; i < DIM; i++) {
        out[i] += weight * down[i];
    }
}

/* A token through a layer whose experts are all there: every expert is asked whether it is chosen. */
static void run_plainly(uint32_t layer, uint32_t bits, const float *token, const float *scores,
                        float *out) {
    float parts[EXPERTS];
    float total = 0.0f;
    float chosen_total = 0.0f;
    bool chosen[EXPERTS];
    for (uint32_t e = 0; e < EXPERTS; e++) {
        uint32_t better = 0;
        parts[e] = nst_exp(scores[e]);
        total += parts[e];
        for (uint32_t other = 0; other < EXPERTS; other++) {
            better += scores[other] > scores[e] || (scores[other] == scores[e] && other < e);
        }
        chosen[e] = better < TOP_K;
        chosen_total += chosen[e] ? parts[e] : 0.0f;
    }
    for (uint32_t i = 0; i < DIM; i++) {
        out[i] = 0.0f;
    }
    for (uint32_t e = 0; e < EXPERTS; e++) {
        if (chosen[e]) {
            float weight = parts[e] / (layer == 0 ? total : chosen_total);
            add_expert(layer == 1 && bits == 4 ? high_weights[e] : weights[layer][e], layer == 1,
                       token, weight, out);
        }
    }
}

static int read_section(void *context, uint32_t section, uint64_t offset, void *to,
                        uint32_t bytes) {
    play *scene = context;
    CHECK(section < 2 && offset + bytes <= scene->size[section]);
    if (scene->reads_left == 0) {
        return NST_E_IO;
    }
    scene->reads_left--;
    memcpy(to, sections[section] + offset, bytes);
    return NST_OK;
}

/* Run drawn tokens through a layer, and compare. */
static void call(play *scene, nst_expert_flash *experts, uint32_t number) {
    float hidden[MOST_TOKENS][DIM];
    float scores[MOST_TOKENS][EXPERTS];
    float out[MOST_TOKENS][DIM];
    float wanted[DIM];
    const uint32_t layer = number % LAYERS;
    const uint32_t bits = number % 5 == 4 ? 4 : 8;
    const uint32_t tokens = 1 + number / LAYERS % MOST_TOKENS;
    for (uint32_t token = 0; token < tokens; token++) {
        for (uint32_t i = 0; i < DIM; i++) {
            hidden[token][i] = draw_float(scene);
        }
        for (uint32_t e = 0; e < EXPERTS; e++) {
            /* The first experts are liked best. */
            scores[token][e] = 2.0f * draw_float(scene) - 0.5f * (float)e;
        }
    }
    int code =
        nst_expert_flash_run(experts, 0, layer, hidden[0], scores[0], tokens, bits, out[0], NULL);
    CHECK(code == NST_OK);
    for (uint32_t token = 0; token < tokens && code == NST_OK; token++) {
        float largest = 1e-6f;
        run_plainly(layer, bits, hidden[token], scores[token], wanted);
        for (uint32_t i = 0; i < DIM; i++) {
            float size = wanted[i] < 0 ? -wanted[i] : wanted[i];
            largest = size > largest ? size : largest;
        }
        for (uint32_t i = 0; i < DIM; i++) {
            float error = out[token][i] - wanted[i];
            uint32_t ppm = (uint32_t)((error < 0 ? -error : error) / largest * 1e6f);
            scene->result.worst_ppm = ppm > scene->result.worst_ppm ? ppm : scene->result.worst_ppm;
        }
    }
}

static void start(play *scene, nst_expert_flash *experts, const nst_expert_index *index,
                  uint32_t slots) {
    const nst_expert_flash_config config = {
        .index = index,
        .eviction = nst_expert_eviction_at(NST_EXPERT_FORESIGHT),
        .slots = slots,
        .tokens = MOST_TOKENS,
        .read = read_section,
        .context = scene};
    const uint64_t bytes = nst_expert_flash_bytes(&config);
    CHECK(bytes > 0 && bytes < sizeof memory - 16);
    if (slots == 2) {
        scene->result.ram_bytes = (uint32_t)bytes;
    }
    memset(memory, 0x5A, sizeof memory);
    CHECK(nst_expert_flash_init(experts, &config, memory, (size_t)bytes - 1, NULL) == NST_E_LIMIT);
    CHECK(nst_expert_flash_init(experts, &config, memory, (size_t)bytes, NULL) == NST_OK);
    scene->reads_left = UINT32_MAX;
}

/* Nothing behind what was asked for was written to. */
static void check_end(play *scene, const nst_expert_flash *experts) {
    for (uint64_t i = nst_expert_flash_bytes(&experts->config); i < sizeof memory; i++) {
        CHECK(memory[i] == 0x5A);
    }
}

static void run_calls(play *scene, const nst_expert_index *index, uint32_t slots, uint64_t *hits,
                      uint64_t *misses) {
    nst_expert_flash experts;
    scene->random = 7;
    start(scene, &experts, index, slots);
    nst_expert_flash_begin_request(&experts, 0);
    for (uint32_t number = 0; number < CALLS; number++) {
        call(scene, &experts, number);
    }
    check_end(scene, &experts);
    *hits = experts.cache.counts.hits;
    *misses = experts.cache.counts.misses;
}

/* A read that fails, or brings other bytes, ends its call alone. */
static void lose_flash(play *scene, const nst_expert_index *index) {
    const float hidden[DIM] = {1.0f};
    const float scores[EXPERTS] = {0.0f, 0.0f, 0.0f, 1.0f, 2.0f};
    float out[DIM];
    nst_expert_flash experts;
    nst_error err;
    start(scene, &experts, index, 2);
    scene->reads_left = 1;
    CHECK(nst_expert_flash_run(&experts, 0, 0, hidden, scores, 1, 8, out, &err) == NST_E_IO);
    CHECK(err.code == NST_E_IO);
    scene->reads_left = UINT32_MAX;
    sections[0][4 * FLOAT_BYTES + 5] ^= 1; /* of expert 4 */
    CHECK(nst_expert_flash_run(&experts, 0, 0, hidden, scores, 1, 8, out, &err) == NST_E_HASH);
    CHECK(err.expected != err.actual);
    sections[0][4 * FLOAT_BYTES + 5] ^= 1;
    CHECK(nst_expert_flash_run(&experts, 0, 0, hidden, scores, 1, 8, out, &err) == NST_OK);
    CHECK(nst_expert_flash_run(&experts, 0, 2, hidden, scores, 1, 8, out, &err) == NST_E_ARGUMENT);
    CHECK(nst_expert_flash_run(&experts, 0, 0, hidden, scores, 1, 5, out, &err) == NST_E_ARGUMENT);
    CHECK(nst_expert_flash_run(&experts, 0, 0, hidden, scores, MOST_TOKENS + 1, 8, out, &err) ==
          NST_E_ARGUMENT);
}

scene_result run_expert_flash_scene(void) {
    play stage = {.random = 1};
    play *scene = &stage;
    nst_expert_index index;
    write_experts(scene);
    const uint64_t section_bytes[NST_MAX_EXPERT_SLICES] = {scene->size[0], scene->size[1]};
    int code = nst_expert_index_open(&index, index_bytes, sizeof index_bytes, section_bytes, NULL);
    CHECK(code == NST_OK);
    if (code == NST_OK) {
        run_calls(scene, &index, 2, &scene->result.hits, &scene->result.misses);
        run_calls(scene, &index, EXPERTS * 3 / 2, &scene->result.hits_half,
                  &scene->result.misses_half);
        CHECK(scene->result.misses > scene->result.misses_half);
        CHECK(scene->result.worst_ppm < 20);
        lose_flash(scene, &index);
    }
    return scene->result;
}
