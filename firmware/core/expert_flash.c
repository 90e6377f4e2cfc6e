#include "expert_flash.h"

#include "checked.h"
#include "crc.h"
#include "expert_kernel.h"
#include "expert_routing.h"
#include "sentence.h"

#define ALIGNMENT 16u

/* Where the parts of the memory begin. */
typedef struct parts {
    uint64_t cache;
    uint64_t slots;
    uint64_t probabilities;
    uint64_t weights;
    uint64_t chosen;
    uint64_t first;
    uint64_t rows;
    uint64_t places;
    uint64_t used;
    uint64_t results;
    uint64_t scales;
    uint64_t quantised;
    uint64_t scratch;
    uint64_t bytes;
} parts;

static nst_expert_shape shape_of(const nst_expert_flash_config *config) {
    return (nst_expert_shape){.layers = config->index->layers,
                              .experts = config->index->most_experts,
                              .slices = config->index->slices,
                              .slots = config->slots};
}

/* Append `count` elements; false where the sum wraps. */
static bool append(uint64_t *end, uint64_t count, uint64_t element_bytes, uint64_t *out_begin) {
    uint64_t bytes;
    *out_begin = *end;
    return nst_mul_u64(count, element_bytes, &bytes) && nst_add_u64(*end, bytes, end) &&
           nst_align_u64(*end, ALIGNMENT, end);
}

/* The widest layer's dim, and the most memory that the kernel needs. */
static void measure_layers(const nst_expert_flash_config *config, uint64_t *out_dim,
                           uint64_t *out_scratch) {
    nst_expert_layer layer;
    *out_dim = 0;
    *out_scratch = 0;
    for (uint32_t i = 0; nst_expert_index_layer(config->index, i, &layer); i++) {
        uint64_t scratch = nst_expert_scratch_bytes(&layer, config->tokens);
        *out_dim = layer.dim > *out_dim ? layer.dim : *out_dim;
        *out_scratch = scratch > *out_scratch ? scratch : *out_scratch;
    }
}

static bool lay_out(const nst_expert_flash_config *config, parts *out) {
    if (config == NULL || config->index == NULL || config->eviction == NULL ||
        config->read == NULL || config->tokens == 0 || config->tokens > NST_MAX_EXPERT_UNITS ||
        config->slots < config->index->slices) {
        return false;
    }
    const nst_expert_shape shape = shape_of(config);
    const uint64_t cache_bytes = nst_expert_cache_bytes(&shape, config->eviction);
    /* Products of numbers below 2^17 each. */
    const uint64_t choices = (uint64_t)config->tokens * config->index->most_top_k;
    const uint64_t scores = ((uint64_t)config->tokens + 1) * shape.experts;
    uint64_t dim;
    uint64_t scratch;
    measure_layers(config, &dim, &scratch);
    *out = (parts){.bytes = 0};
    return cache_bytes > 0 && append(&out->bytes, cache_bytes, 1, &out->cache) &&
           append(&out->bytes, config->slots, config->index->slot_bytes, &out->slots) &&
           append(&out->bytes, scores, sizeof(float), &out->probabilities) &&
           append(&out->bytes, choices, sizeof(float), &out->weights) &&
           append(&out->bytes, choices, sizeof(uint32_t), &out->chosen) &&
           append(&out->bytes, (uint64_t)shape.experts + 1, sizeof(uint32_t), &out->first) &&
           append(&out->bytes, choices, sizeof(uint32_t), &out->rows) &&
           append(&out->bytes, choices, sizeof(uint32_t), &out->places) &&
           append(&out->bytes, shape.experts, sizeof(uint32_t), &out->used) &&
           append(&out->bytes, choices, dim * sizeof(float), &out->results) &&
           append(&out->bytes, config->tokens, dim * sizeof(float), &out->scales) &&
           append(&out->bytes, config->tokens, dim * sizeof(int16_t), &out->quantised) &&
           append(&out->bytes, scratch, 1, &out->scratch);
}

uint64_t nst_expert_flash_bytes(const nst_expert_flash_config *config) {
    parts at;
    return lay_out(config, &at) ? at.bytes : 0;
}

int nst_expert_flash_init(nst_expert_flash *experts, const nst_expert_flash_config *config,
                          void *memory, size_t bytes, nst_error *err) {
    parts at;
    if (experts == NULL || memory == NULL || (uintptr_t)memory % ALIGNMENT != 0 ||
        !lay_out(config, &at)) {
        return nst_fail_in(err, NST_E_ARGUMENT, NULL,
                           NST_TEXT("experts cannot be kept as they were asked for"));
    }
    if (bytes < at.bytes) {
        return nst_fail(err, NST_E_LIMIT, NULL, NULL, at.bytes, bytes,
                        NST_TEXT("experts need more memory"));
    }
    uint8_t *base = memory;
    const nst_expert_shape shape = shape_of(config);
    *experts = (nst_expert_flash){.config = *config,
                                  .slots = base + at.slots,
                                  .probabilities = (float *)(void *)(base + at.probabilities),
                                  .weights = (float *)(void *)(base + at.weights),
                                  .chosen = (uint32_t *)(void *)(base + at.chosen),
                                  .first = (uint32_t *)(void *)(base + at.first),
                                  .rows = (uint32_t *)(void *)(base + at.rows),
                                  .places = (uint32_t *)(void *)(base + at.places),
                                  .used = (uint32_t *)(void *)(base + at.used),
                                  .results = (float *)(void *)(base + at.results),
                                  .scales = (float *)(void *)(base + at.scales),
                                  .quantised = (int16_t *)(void *)(base + at.quantised),
                                  .scratch = base + at.scratch};
    return nst_expert_cache_init(&experts->cache, &shape, config->eviction, base + at.cache,
                                 (size_t)(at.slots - at.cache));
}

void nst_expert_flash_begin_request(nst_expert_flash *experts, uint32_t request) {
    nst_expert_cache_begin_request(&experts->cache, request);
}

/* Choose, sort tokens by expert, and tell the cache. Returns how many experts are `used`. */
static uint32_t route(nst_expert_flash *experts, uint32_t request, uint32_t number,
                      const nst_expert_layer *layer, const float *scores, uint32_t tokens) {
    /* The cache's rows are as long as the largest layer's. */
    const uint32_t most = experts->cache.shape.experts;
    float *mean = experts->probabilities + (size_t)tokens * layer->experts;
    uint32_t count = 0;
    nst_expert_softmax(scores, tokens, layer->experts, experts->probabilities);
    nst_expert_choose(layer, scores, experts->probabilities, tokens, experts->chosen,
                      experts->weights);
    nst_expert_gather(experts->chosen, tokens, layer->top_k, layer->experts, experts->first,
                      experts->rows, experts->places);
    for (uint32_t expert = 0; expert < most; expert++) {
        mean[expert] = 0.0f;
    }
    for (uint32_t expert = 0; expert < layer->experts; expert++) {
        for (uint32_t token = 0; token < tokens; token++) {
            mean[expert] += experts->probabilities[(size_t)token * layer->experts + expert];
        }
        mean[expert] /= (float)tokens;
        if (experts->first[expert + 1] > experts->first[expert]) {
            experts->used[count++] = expert;
        }
    }
    const nst_expert_visit visit = {.request = request,
                                    .layer = number,
                                    .probabilities = mean,
                                    .chosen = experts->used,
                                    .count = count};
    nst_expert_cache_route(&experts->cache, &visit);
    return count;
}

static bool is_resident(const nst_expert_flash *experts, uint32_t layer, uint32_t expert,
                        uint32_t slices) {
    uint32_t key = nst_expert_key(&experts->cache.shape, layer, expert, 0);
    for (uint32_t slice = 0; slice < slices; slice++) {
        if (nst_expert_cache_peek(&experts->cache, key + slice) == NST_NONE) {
            return false;
        }
    }
    return true;
}

/* Read a slice into a loading slot. */
static int read_slice(nst_expert_flash *experts, const nst_expert_layer *layer, uint32_t expert,
                      uint32_t number, uint32_t slot, nst_error *err) {
    uint8_t *to = experts->slots + (size_t)slot * experts->config.index->slot_bytes;
    nst_expert_slice slice;
    if (!nst_expert_index_slice(experts->config.index, layer->first_expert + expert, number,
                                &slice)) {
        return nst_fail_in(err, NST_E_CORRUPT, "experts",
                           NST_TEXT("an expert is not in the index"));
    }
    int code = experts->config.read(experts->config.context, number, slice.offset, to, slice.size);
    if (code != NST_OK) {
        return nst_fail_in(err, code, "experts", NST_TEXT("an expert could not be read"));
    }
    uint32_t sum = nst_crc32(0, to, slice.size);
    if (sum != slice.crc32) {
        return nst_fail(err, NST_E_HASH, "experts", NULL, slice.crc32, sum,
                        NST_TEXT("an expert's bytes are not those that were written"));
    }
    return NST_OK;
}

/* Get a slice into a slot that is pinned; *slot is NST_NONE where that failed. */
static int hold(nst_expert_flash *experts, const nst_expert_layer *layer, uint32_t key,
                uint32_t expert, uint32_t slice, uint32_t *slot, nst_error *err) {
    nst_expert_cache *cache = &experts->cache;
    *slot = nst_expert_cache_find(cache, key);
    if (*slot == NST_NONE) {
        int code = nst_expert_cache_claim(cache, key, NST_EXPERT_DEMAND, slot);
        if (code != NST_OK) {
            *slot = NST_NONE;
            return nst_fail_in(err, code, "experts", NST_TEXT("no slot for an expert"));
        }
        code = read_slice(experts, layer, expert, slice, *slot, err);
        if (code != NST_OK) {
            nst_expert_cache_drop(cache, *slot);
            *slot = NST_NONE;
            return code;
        }
        nst_expert_cache_ready(cache, *slot);
    }
    nst_expert_cache_pin(cache, *slot);
    return NST_OK;
}

static const void *bytes_of(const nst_expert_flash *experts, uint32_t slot) {
    return slot == NST_NONE ? NULL
                            : experts->slots + (size_t)slot * experts->config.index->slot_bytes;
}

/* Compute an expert on its tokens. */
static int run_expert(nst_expert_flash *experts, const nst_expert_layer *layer, uint32_t number,
                      uint32_t expert, uint32_t slices, const nst_expert_input *in,
                      nst_error *err) {
    uint32_t slots[NST_MAX_EXPERT_SLICES] = {NST_NONE, NST_NONE};
    const uint32_t first = experts->first[expert];
    int code = NST_OK;
    for (uint32_t slice = 0; slice < slices && code == NST_OK; slice++) {
        uint32_t key = nst_expert_key(&experts->cache.shape, number, expert, slice);
        code = hold(experts, layer, key, expert, slice, &slots[slice], err);
    }
    if (code == NST_OK) {
        nst_expert_run(layer, bytes_of(experts, slots[0]), bytes_of(experts, slots[1]), in,
                       experts->rows + first, experts->first[expert + 1] - first, experts->scratch,
                       experts->results + (size_t)first * layer->dim);
    }
    for (uint32_t slice = 0; slice < slices; slice++) {
        nst_expert_cache_unpin(&experts->cache, slots[slice]);
    }
    return code;
}

int nst_expert_flash_run(nst_expert_flash *experts, uint32_t request, uint32_t layer,
                         const float *hidden, const float *scores, uint32_t tokens, uint32_t bits,
                         float *out, nst_error *err) {
    nst_expert_layer info;
    if (experts == NULL || hidden == NULL || scores == NULL || out == NULL || tokens == 0 ||
        tokens > experts->config.tokens || (bits != 8 && bits != 4) ||
        !nst_expert_index_layer(experts->config.index, layer, &info)) {
        return nst_fail_in(err, NST_E_ARGUMENT, "experts",
                           NST_TEXT("no such layer, or too many tokens"));
    }
    const uint32_t count = route(experts, request, layer, &info, scores, tokens);
    const nst_expert_input in = {.x = hidden, .q = experts->quantised, .scales = experts->scales};
    if (info.format == NST_EXPERT_NIBBLES) {
        nst_expert_quantise(hidden, tokens, info.dim, info.group, experts->quantised,
                            experts->scales);
    }
    const bool two =
        info.format == NST_EXPERT_NIBBLES && bits == 8 && experts->config.index->slices == 2;
    const uint32_t slices = two ? 2 : 1;
    /* Those that are there first: reading another may take their slot. */
    for (uint32_t pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < count; i++) {
            uint32_t expert = experts->used[i];
            if (expert == NST_NONE || (pass == 0 && !is_resident(experts, layer, expert, slices))) {
                continue;
            }
            int code = run_expert(experts, &info, layer, expert, slices, &in, err);
            if (code != NST_OK) {
                return code;
            }
            experts->used[i] = NST_NONE;
        }
    }
    nst_expert_combine(experts->weights, experts->places, tokens, info.top_k, info.dim,
                       experts->results, out);
    return NST_OK;
}
