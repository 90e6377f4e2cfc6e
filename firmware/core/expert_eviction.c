#include "expert_eviction.h"

#include <stddef.h>

/* LRU. State: the time of the last use of each expert. */

typedef struct recency {
    uint64_t now; /* uses so far */
    uint64_t used[];
} recency;

static uint64_t experts_of(const nst_expert_shape *shape) {
    return (uint64_t)shape->layers * shape->experts;
}

static uint64_t recency_bytes(const nst_expert_shape *shape) {
    return sizeof(recency) + experts_of(shape) * sizeof(uint64_t);
}

static void recency_start(void *self, const nst_expert_shape *shape) {
    recency *state = self;
    state->now = 0;
    for (uint64_t expert = 0; expert < experts_of(shape); expert++) {
        state->used[expert] = 0;
    }
}

static void recency_use(void *self, uint32_t expert) {
    recency *state = self;
    state->used[expert] = ++state->now;
}

static bool recency_before(const void *self, uint32_t one, uint32_t other) {
    const recency *state = self;
    return state->used[one] < state->used[other];
}

static const nst_expert_eviction POLICIES[] = {
    [NST_EXPERT_LRU] = {.name = "lru",
                        .state_bytes = recency_bytes,
                        .start = recency_start,
                        .use = recency_use,
                        .before = recency_before},
};

const nst_expert_eviction *nst_expert_eviction_at(uint32_t policy) {
    return policy < sizeof POLICIES / sizeof POLICIES[0] ? &POLICIES[policy] : NULL;
}
