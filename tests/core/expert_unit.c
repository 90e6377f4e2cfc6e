/* Unit tests of the expert cache, run with sanitizers: random calls on all policies and shapes, with
 * numbers out of range, and probabilities that are no numbers. tests/core/test_expert_cache.py says
 * what each call answers; here no byte outside the caller's memory is touched, and no rule of the
 * slots broken. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "expert_cache.h"
#include "expert_replay.h"
#include "expert_sequence.h"

#define MOST_EXPERTS 9u

/* xorshift32. */
static uint32_t draw(uint32_t *state, uint32_t below) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state % below;
}

/* A started cache in memory of just its size, so that a byte too far is found. */
static void *started(nst_expert_cache *cache, const nst_expert_shape *shape, uint32_t policy) {
    const nst_expert_eviction *eviction = nst_expert_eviction_at(policy);
    size_t bytes = (size_t)nst_expert_cache_bytes(shape, eviction);
    void *memory = malloc(bytes);
    if (memory == NULL) {
        abort();
    }
    memset(memory, 0xA5, bytes);
    CHECK(nst_expert_cache_init(cache, shape, eviction, memory, bytes) == NST_OK);
    return memory;
}

static void draw_probabilities(uint32_t *state, float *out) {
    static const float odd[] = {NAN, INFINITY, -INFINITY, -1.0f, 1e30f, 0.0f};
    for (uint32_t expert = 0; expert < MOST_EXPERTS; expert++) {
        out[expert] = (float)draw(state, 1000) / 1000.0f;
        if (draw(state, 50) == 0) {
            out[expert] = odd[draw(state, sizeof odd / sizeof odd[0])];
        }
    }
}

static void check_slots(const nst_expert_cache *cache) {
    uint32_t resident = 0;
    for (uint32_t slot = 0; slot < cache->shape.slots; slot++) {
        const nst_expert_slot *entry = &cache->slots[slot];
        CHECK((entry->key == NST_NONE) == (entry->state == NST_EXPERT_EMPTY));
        if (entry->key != NST_NONE) {
            resident++;
            CHECK(nst_expert_cache_peek(cache, entry->key) == slot);
        } else {
            CHECK(!entry->ahead && !entry->awaited);
        }
    }
    for (uint32_t key = 0; key < cache->keys; key++) {
        resident -= nst_expert_cache_peek(cache, key) != NST_NONE;
    }
    CHECK(resident == 0);
}

static void call(nst_expert_cache *cache, uint32_t *state, const float *probabilities) {
    uint32_t chosen[MOST_EXPERTS + 1];
    uint32_t key = draw(state, cache->keys + 1);
    uint32_t slot = draw(state, cache->shape.slots + 1);
    uint32_t taken;
    nst_expert_visit visit = {.request = draw(state, 20),
                              .layer = draw(state, cache->shape.layers + 1),
                              .probabilities = probabilities,
                              .chosen = chosen,
                              .count = draw(state, cache->shape.experts + 2)};
    uint32_t first = draw(state, cache->shape.experts);
    for (uint32_t i = 0; i <= cache->shape.experts; i++) {
        chosen[i] = (first + i) % cache->shape.experts;
    }
    switch (draw(state, 10)) {
        case 0:
            nst_expert_cache_begin_request(cache, visit.request);
            break;
        case 1:
            nst_expert_cache_expect(cache, &visit);
            break;
        case 2:
        case 3:
            CHECK(nst_expert_cache_route(cache, &visit) ==
                  (visit.layer < cache->shape.layers && visit.count <= cache->shape.experts));
            break;
        case 4:
            nst_expert_cache_find(cache, key);
            break;
        case 5:
            nst_expert_cache_pin(cache, slot);
            break;
        case 6:
            nst_expert_cache_unpin(cache, slot);
            break;
        case 7:
            nst_expert_cache_drop(cache, slot);
            break;
        case 8:
            nst_expert_cache_await(cache, key);
            break;
        default:
            if (nst_expert_cache_claim(cache, key, draw(state, 2), &taken) == NST_OK) {
                CHECK(cache->slots[taken].pins == 0);
                CHECK(nst_expert_cache_ready(cache, taken));
            }
    }
}

static void any_calls_keep_the_rules(uint32_t policy) {
    uint32_t state = 1 + policy;
    for (uint32_t round = 0; round < 40; round++) {
        nst_expert_shape shape = {.layers = 1 + draw(&state, 5),
                                  .experts = 1 + draw(&state, MOST_EXPERTS),
                                  .slices = 1 + draw(&state, 2),
                                  .slots = 1 + draw(&state, 12)};
        nst_expert_cache cache;
        void *memory = started(&cache, &shape, policy);
        for (uint32_t step = 0; step < 300; step++) {
            float probabilities[MOST_EXPERTS];
            draw_probabilities(&state, probabilities);
            call(&cache, &state, probabilities);
        }
        check_slots(&cache);
        free(memory);
    }
}

#define ROWS 200u

static void odd_traces_replay(uint32_t policy) {
    static float probabilities[ROWS][MOST_EXPERTS];
    static uint32_t layers[ROWS];
    static uint32_t requests[ROWS];
    const nst_expert_shape shape = {.layers = 4, .experts = MOST_EXPERTS, .slices = 2, .slots = 7};
    uint32_t state = 77 + policy;
    for (uint32_t row = 0; row < ROWS; row++) {
        draw_probabilities(&state, probabilities[row]);
        layers[row] = draw(&state, 4);
        requests[row] = draw(&state, 30);
    }
    nst_expert_cache cache;
    void *memory = started(&cache, &shape, policy);
    nst_expert_sequence sequence;
    size_t bytes = (size_t)nst_expert_sequence_bytes(&shape);
    void *table = malloc(bytes);
    if (table == NULL) {
        abort();
    }
    CHECK(nst_expert_sequence_init(&sequence, &shape, table, bytes) == NST_OK);
    uint32_t chosen[MOST_EXPERTS];
    uint8_t taken[MOST_EXPERTS];
    float chances[MOST_EXPERTS];
    const nst_expert_replay_room room = {chosen, taken, chances};
    nst_expert_trace trace = {.rows = ROWS,
                              .top_k = 3,
                              .layers = layers,
                              .requests = requests,
                              .probabilities = probabilities[0],
                              .predicted_layers = layers,
                              .predicted = probabilities[0]};
    for (uint32_t prefetch = 0; prefetch < 3; prefetch++) {
        CHECK(nst_expert_replay(&cache, &trace, prefetch, &sequence, &room) == NST_OK);
    }
    CHECK(nst_expert_replay(&cache, &trace, 3, &sequence, &room) == NST_E_ARGUMENT);
    CHECK(nst_expert_replay(&cache, &trace, NST_EXPERT_PREFETCH_SEQUENCE, NULL, &room) ==
          NST_E_ARGUMENT);
    layers[ROWS - 1] = 4;
    CHECK(nst_expert_replay(&cache, &trace, 0, NULL, &room) == NST_E_NOT_FOUND);
    check_slots(&cache);
    free(table);
    free(memory);
}

/* Many more visits than a row of statistics counts before it is halved. */
static void sequence_counts_do_not_run_over(void) {
    const nst_expert_shape shape = {.layers = 2, .experts = 2, .slices = 1, .slots = 1};
    uint16_t table[12];
    float chances[2];
    nst_expert_sequence sequence;
    CHECK(nst_expert_sequence_bytes(&shape) == sizeof table);
    CHECK(nst_expert_sequence_init(&sequence, &shape, table, sizeof table - 1) == NST_E_LIMIT);
    CHECK(nst_expert_sequence_init(&sequence, &shape, table, sizeof table) == NST_OK);
    CHECK(nst_expert_sequence_predict(&sequence, 0, chances) == NST_NONE);
    for (uint32_t visit = 0; visit < 200000; visit++) {
        uint32_t chosen = visit % 2 == 0 || visit % 8 < 4 ? 0 : 1;
        nst_expert_visit step = {.layer = visit % 2, .chosen = &chosen, .count = 1};
        CHECK(nst_expert_sequence_note(&sequence, &step));
    }
    uint32_t chosen = 0;
    nst_expert_visit step = {.layer = 0, .chosen = &chosen, .count = 1};
    CHECK(nst_expert_sequence_note(&sequence, &step));
    CHECK(nst_expert_sequence_predict(&sequence, 0, chances) == 1);
    CHECK(fabsf(chances[0] - 0.5f) < 0.01f && fabsf(chances[1] - 0.5f) < 0.01f);
    step.layer = 2;
    CHECK(!nst_expert_sequence_note(&sequence, &step));
    CHECK(!nst_expert_sequence_note(&sequence, NULL));
    nst_expert_sequence_begin_request(&sequence, 0);
    CHECK(nst_expert_sequence_predict(&sequence, 0, chances) == NST_NONE);
}

static void null_is_refused(void) {
    const nst_expert_shape shape = {.layers = 2, .experts = 2, .slices = 1, .slots = 1};
    const nst_expert_eviction *eviction = nst_expert_eviction_at(NST_EXPERT_LRU);
    nst_expert_cache cache;
    uint64_t memory[512];
    CHECK(nst_expert_cache_bytes(NULL, eviction) == 0);
    CHECK(nst_expert_cache_bytes(&shape, NULL) == 0);
    CHECK(nst_expert_cache_init(NULL, &shape, eviction, memory, sizeof memory) == NST_E_ARGUMENT);
    CHECK(nst_expert_cache_init(&cache, &shape, eviction, NULL, 0) == NST_E_ARGUMENT);
    CHECK(nst_expert_cache_init(&cache, &shape, eviction, memory, sizeof memory) == NST_OK);
    CHECK(nst_expert_cache_claim(&cache, 0, NST_EXPERT_DEMAND, NULL) == NST_E_ARGUMENT);
    CHECK(!nst_expert_cache_route(&cache, NULL));
    CHECK(!nst_expert_cache_expect(&cache, NULL));
    CHECK(nst_expert_replay(NULL, NULL, 0, NULL, NULL) == NST_E_ARGUMENT);
    CHECK(nst_expert_sequence_bytes(NULL) == 0);
}

int main(void) {
    for (uint32_t policy = 0; policy < NST_EXPERT_POLICIES; policy++) {
        any_calls_keep_the_rules(policy);
        odd_traces_replay(policy);
    }
    sequence_counts_do_not_run_over();
    null_is_refused();
    return finish();
}
