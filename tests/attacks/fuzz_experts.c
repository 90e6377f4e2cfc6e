/* The fuzz target of indexes of experts: two sizes of sections, then an index, read to the end; what
 * is accepted must describe experts that the kernels can compute within their bytes. */
#include <stdlib.h>
#include <string.h>

#include "expert_index.h"
#include "expert_kernel.h"
#include "expert_routing.h"
#include "fuzz_bundle.h"

enum { SIZES = 16, TOTAL_BYTES = 28, MOST_SLICE = 1 << 16, TOKENS = 3 };

bool fuzz_seed(const uint8_t *data, size_t size, const uint8_t **out_manifest, size_t *out_bytes) {
    *out_manifest = data;
    *out_bytes = size;
    return size > SIZES;
}

/* Memory of exactly so many bytes, aligned to 16, so that a byte too far is a finding. */
static void *exactly(size_t bytes) {
    void *memory = malloc(bytes > 0 ? bytes : 1);
    if (memory == NULL) {
        abort();
    }
    return memory;
}

static void *filled(size_t bytes) {
    uint8_t *memory = exactly(bytes);
    for (size_t i = 0; i < bytes; i++) {
        memory[i] = (uint8_t)(i * 37 + 11);
    }
    return memory;
}

/* Route some tokens through a layer and compute with one of its experts. */
static void compute(const nst_expert_layer *layer) {
    const uint64_t high_bytes = nst_expert_layer_slice_bytes(layer, 0);
    const uint64_t low_bytes = nst_expert_layer_slice_bytes(layer, 1);
    const size_t pairs = (size_t)TOKENS * layer->top_k;
    if (high_bytes > MOST_SLICE || layer->experts > 64) {
        return;
    }
    float *x = filled(sizeof *x * TOKENS * layer->dim);
    float *scores = filled(sizeof *scores * TOKENS * layer->experts);
    float *chances = exactly(sizeof *chances * TOKENS * layer->experts);
    uint32_t *chosen = exactly(sizeof *chosen * pairs);
    float *weights = exactly(sizeof *weights * pairs);
    uint32_t *first = exactly(sizeof *first * (layer->experts + 1));
    uint32_t *rows = exactly(sizeof *rows * pairs);
    uint32_t *places = exactly(sizeof *places * pairs);
    float *results = exactly(sizeof *results * pairs * layer->dim);
    float *out = exactly(sizeof *out * TOKENS * layer->dim);
    int16_t *q = exactly(sizeof *q * TOKENS * layer->dim);
    float *scales = exactly(sizeof *scales * TOKENS * layer->dim);
    void *high = filled((size_t)high_bytes);
    void *low = filled((size_t)low_bytes);
    void *scratch = exactly((size_t)nst_expert_scratch_bytes(layer, TOKENS));
    const nst_expert_input input = {x, q, scales};
    if (layer->group != 0) {
        nst_expert_quantise(x, TOKENS, layer->dim, layer->group, q, scales);
    }
    nst_expert_softmax(scores, TOKENS, layer->experts, chances);
    nst_expert_choose(layer, scores, chances, TOKENS, chosen, weights);
    nst_expert_gather(chosen, TOKENS, layer->top_k, layer->experts, first, rows, places);
    for (uint32_t e = 0; e < layer->experts; e++) {
        const uint32_t count = first[e + 1] - first[e];
        if (count > 0) {
            nst_expert_run(layer, high, e % 2 == 0 ? low : NULL, &input, rows + first[e], count,
                           scratch, results + (size_t)first[e] * layer->dim);
        }
    }
    nst_expert_combine(weights, places, TOKENS, layer->top_k, layer->dim, results, out);
    void *all[] = {x,       scores, chances, chosen, weights, first, rows,   places,
                   results, out,    q,       scales, high,    low,   scratch};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        free(all[i]);
    }
}

static void read_all(const nst_expert_index *index, const uint64_t section_bytes[2]) {
    uint32_t experts = 0;
    for (uint32_t i = 0; i < index->layers; i++) {
        nst_expert_layer layer;
        nst_expert_layer other;
        nst_expert_slice slice;
        if (!nst_expert_index_layer(index, i, &layer) || layer.first_expert != experts) {
            abort(); /* nst_expert_index_open promised otherwise */
        }
        for (uint32_t e = 0; e < layer.experts; e++) {
            for (uint32_t s = 0; s < index->slices; s++) {
                if (!nst_expert_index_slice(index, experts + e, s, &slice) ||
                    slice.size > index->slot_bytes ||
                    slice.offset > section_bytes[s] - slice.size) {
                    abort();
                }
            }
        }
        if (layer.predictor != NULL &&
            nst_expert_index_layer(index, layer.predicted_layer, &other)) {
            float *x = filled(sizeof *x * layer.dim);
            float *scores = exactly(sizeof *scores * other.experts);
            nst_expert_predict(&layer, other.experts, x, 1, scores);
            free(x);
            free(scores);
        }
        experts += layer.experts;
        compute(&layer);
    }
    if (experts != index->experts) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint64_t section_bytes[2];
    nst_expert_index index;
    nst_error err = {0};
    if (size < SIZES) {
        return 0;
    }
    memcpy(section_bytes, data, SIZES);
    size -= SIZES;
    uint8_t *copy = exactly(size);
    memcpy(copy, data + SIZES, size);
    if (size >= TOTAL_BYTES + 4) {
        const uint32_t total = (uint32_t)size; /* else nothing longer or shorter gets further */
        memcpy(copy + TOTAL_BYTES, &total, sizeof total);
    }
    int code = nst_expert_index_open(&index, copy, size, section_bytes, &err);
    if (code == NST_OK) {
        read_all(&index, section_bytes);
    } else if (err.code != code || err.message[0] == '\0' || code == NST_E_ARGUMENT) {
        abort(); /* an error that says nothing */
    }
    free(copy);
    return 0;
}
