/* Policies that know no more than when, and how often, an expert was used: LRU, LFU, least-stale. */
#include "expert_policies.h"
#include "expert_visits.h"

typedef struct use {
    uint32_t when;
    uint32_t count;
} use;

typedef struct use_order {
    nst_expert_visits visits;
    uint32_t *distances; /* [layers] */
    use *uses;           /* [layers x experts] */
    uint32_t experts;    /* of a layer */
    uint32_t now;        /* uses so far */
} use_order;

static uint64_t state_bytes(const nst_expert_shape *shape) {
    return sizeof(use_order) + nst_expert_count(shape) * sizeof(use) +
           shape->layers * sizeof(uint32_t);
}

static void start(void *self, const nst_expert_shape *shape) {
    use_order *state = self;
    use *uses = (use *)(void *)(state + 1);
    uint64_t count = nst_expert_count(shape);
    *state = (use_order){
        .distances = (uint32_t *)(void *)(uses + count), .uses = uses, .experts = shape->experts};
    nst_expert_visits_start(&state->visits, shape);
    nst_expert_visits_distances(&state->visits, state->distances);
    for (uint64_t expert = 0; expert < count; expert++) {
        uses[expert] = (use){.when = 0};
    }
}

static void note_use(void *self, uint32_t expert) {
    use_order *state = self;
    use *entry = &state->uses[expert];
    entry->when = ++state->now;
    entry->count += entry->count < UINT32_MAX;
}

static void note_visit(void *self, const nst_expert_visit *visit) {
    use_order *state = self;
    nst_expert_visits_note(&state->visits, visit);
    nst_expert_visits_distances(&state->visits, state->distances);
}

static bool used_before(const void *self, uint32_t one, uint32_t other) {
    const use_order *state = self;
    /* Of uses less than 2^31 apart: the clock may run over. */
    return state->uses[one].when - state->uses[other].when > UINT32_MAX / 2;
}

static bool used_less(const void *self, uint32_t one, uint32_t other) {
    const use_order *state = self;
    uint32_t a = state->uses[one].count;
    uint32_t b = state->uses[other].count;
    return a != b ? a < b : used_before(self, one, other);
}

static bool visited_later(const void *self, uint32_t one, uint32_t other) {
    const use_order *state = self;
    uint32_t a = state->distances[one / state->experts];
    uint32_t b = state->distances[other / state->experts];
    return a != b ? a > b : used_before(self, one, other);
}

const nst_expert_eviction nst_expert_evict_lru = {.name = "lru",
                                                  .state_bytes = state_bytes,
                                                  .start = start,
                                                  .use = note_use,
                                                  .before = used_before};

const nst_expert_eviction nst_expert_evict_lfu = {.name = "lfu",
                                                  .state_bytes = state_bytes,
                                                  .start = start,
                                                  .use = note_use,
                                                  .before = used_less};

const nst_expert_eviction nst_expert_evict_least_stale = {.name = "least-stale",
                                                          .state_bytes = state_bytes,
                                                          .start = start,
                                                          .route = note_visit,
                                                          .use = note_use,
                                                          .before = visited_later};
