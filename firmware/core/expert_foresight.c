/* Ours: the resident that is worth least to keep goes first, by a value learnt while it runs.
 *
 * A visit of a layer says how likely each of its experts was, also those that were not chosen: a
 * runner-up of this token is often chosen by the next. The value of keeping an expert
 * (expert_value.h) is learnt from those probabilities, how they were on average over shorter and
 * longer times, and how lately and how often the expert was used. So it becomes recency where uses
 * cluster, frequency where they do not, and the router's word where that says more; nothing is
 * trained beforehand. An expert whose layer is visited later is worth less by the same discount,
 * part by part of a round of the layers. What a predictor says of a visit to come takes the place of
 * what was learnt.
 *
 * Two shadows (expert_shadow.h) count what this order and LRU would have hit; while LRU is ahead,
 * its order is followed. */
#include "expert_policies.h"
#include "expert_shadow.h"
#include "expert_value.h"
#include "expert_visits.h"
#include "exponential.h"

/* What a use a round of the layers later is worth, and its logarithm. */
#define DISCOUNT 0.6f
#define LOG_DISCOUNT -0.5108256f

/* Hits that LRU, or ours again, must be ahead of the other to be followed, and what remains of the
 * lead after a visit. LRU's margin is small: in doubt it does no harm. */
#define LRU_LEAD_HITS 1.0f
#define OUR_LEAD_HITS 8.0f
#define LEAD_KEPT 0.9995f

typedef enum feature {
    ALWAYS,    /* 1 */
    USED_LONG, /* how often it was used lately, and ever */
    USED_EVER,
    RECENT, /* 1 at a use, less with every visit without */
    LIKELY, /* chance by the router's probability now, and its averages */
    LIKELY_SHORT,
    LIKELY_MEDIUM,
    LIKELY_LONG,
    RECENT_AND_MEDIUM, /* products */
    RECENT_AND_LIKELY,
    RECENT_AND_EVER
} feature;

/* Weights of the newest visit in averages, and what remains of RECENT. */
#define EVER 0.003f
#define LONG 0.02f
#define MEDIUM 0.15f
#define SHORT 0.5f
#define RECENT_KEPT 0.6f

static const float prior[NST_EXPERT_FEATURES] = {
    [USED_LONG] = 0.6f, [RECENT] = 0.3f, [LIKELY] = 0.1f};

typedef struct foresight {
    nst_expert_visits visits;
    nst_expert_shape shape;
    nst_expert_value value;
    nst_expert_shadow by_worth;
    nst_expert_shadow by_use;
    float lead;          /* of LRU, in hits, lately */
    uint32_t use_lru;    /* 0 or 1 */
    float *features;     /* [layers x experts][NST_EXPERT_FEATURES] */
    float *worth;        /* [layers x experts] at the next visit of the layer */
    uint32_t *when;      /* [layers x experts] visit of the last use, 0 without any */
    uint32_t *distances; /* [layers] */
    float *nearness;     /* [layers] discount of a layer's next visit */
    float *discounts;    /* [layers] of distances */
    uint32_t now;        /* visits so far */
} foresight;

static uint64_t state_bytes(const nst_expert_shape *shape) {
    return sizeof(foresight) + nst_expert_count(shape) * (NST_EXPERT_FEATURES + 2) * sizeof(float) +
           (uint64_t)shape->layers * 3 * sizeof(float) + 2 * nst_expert_shadow_bytes(shape);
}

static void look_around(foresight *state) {
    nst_expert_visits_distances(&state->visits, state->distances);
    for (uint32_t layer = 0; layer < state->shape.layers; layer++) {
        state->nearness[layer] = state->discounts[state->distances[layer]];
    }
}

static void start(void *self, const nst_expert_shape *shape) {
    foresight *state = self;
    const uint64_t count = nst_expert_count(shape);
    *state = (foresight){.shape = *shape};
    state->features = (float *)(void *)(state + 1);
    state->worth = state->features + count * NST_EXPERT_FEATURES;
    state->nearness = state->worth + count;
    state->discounts = state->nearness + shape->layers;
    state->distances = (uint32_t *)(void *)(state->discounts + shape->layers);
    state->when = state->distances + shape->layers;
    uint8_t *shadows = (uint8_t *)(state->when + count);
    nst_expert_shadow_start(&state->by_worth, shape, shadows);
    nst_expert_shadow_start(&state->by_use, shape, shadows + nst_expert_shadow_bytes(shape));
    nst_expert_value_start(&state->value, prior, DISCOUNT);
    for (uint64_t i = 0; i < count; i++) {
        for (uint32_t j = 0; j < NST_EXPERT_FEATURES; j++) {
            state->features[i * NST_EXPERT_FEATURES + j] = j == ALWAYS ? 1.0f : 0.0f;
        }
        state->worth[i] = 0.0f;
        state->when[i] = 0;
    }
    for (uint32_t distance = 0; distance < shape->layers; distance++) {
        state->discounts[distance] = nst_exp(LOG_DISCOUNT * (float)distance / (float)shape->layers);
    }
    nst_expert_visits_start(&state->visits, shape);
    look_around(state);
}

/* A probability of the router as a chance of being among `count` chosen. Not a number is 0. */
static float chance_of(float probability, uint32_t count) {
    float chance = probability * (float)count;
    return chance > 0.0f ? (chance < 1.0f ? chance : 1.0f) : 0.0f;
}

static void move(float *average, float newest, float weight) {
    *average += weight * (newest - *average);
}

static void update(float *features, bool used, float chance) {
    move(&features[USED_LONG], used ? 1.0f : 0.0f, LONG);
    move(&features[USED_EVER], used ? 1.0f : 0.0f, EVER);
    features[RECENT] = used ? 1.0f : features[RECENT] * RECENT_KEPT;
    features[LIKELY] = chance;
    move(&features[LIKELY_SHORT], chance, SHORT);
    move(&features[LIKELY_MEDIUM], chance, MEDIUM);
    move(&features[LIKELY_LONG], chance, LONG);
    features[RECENT_AND_MEDIUM] = features[RECENT] * features[LIKELY_MEDIUM];
    features[RECENT_AND_LIKELY] = features[RECENT] * features[LIKELY];
    features[RECENT_AND_EVER] = features[RECENT] * features[USED_EVER];
}

static bool worth_less(const void *self, uint32_t one, uint32_t other) {
    const foresight *state = self;
    float a = state->worth[one] * state->nearness[one / state->shape.experts];
    float b = state->worth[other] * state->nearness[other / state->shape.experts];
    return a != b ? a < b : state->when[one] < state->when[other];
}

static bool used_before(const void *self, uint32_t one, uint32_t other) {
    const foresight *state = self;
    return state->when[one] < state->when[other];
}

static void compare_orders(foresight *state, const nst_expert_visit *visit) {
    uint32_t experts = state->shape.experts;
    uint32_t ours = nst_expert_shadow_visit(&state->by_worth, visit, experts, worth_less, state);
    uint32_t lru = nst_expert_shadow_visit(&state->by_use, visit, experts, used_before, state);
    state->lead = state->lead * LEAD_KEPT + ((float)lru - (float)ours);
    if (state->lead > LRU_LEAD_HITS) {
        state->use_lru = 1;
    } else if (state->lead < -OUR_LEAD_HITS) {
        state->use_lru = 0;
    }
}

static void route(void *self, const nst_expert_visit *visit) {
    foresight *state = self;
    const uint32_t experts = state->shape.experts;
    const uint64_t first = (uint64_t)visit->layer * experts;
    const float share = visit->count > 0 ? 1.0f / (float)visit->count : 1.0f;
    nst_expert_visits_note(&state->visits, visit);
    look_around(state);
    state->now++;
    for (uint32_t i = 0; i < visit->count; i++) {
        state->when[first + visit->chosen[i]] = state->now;
    }
    nst_expert_value_begin_visit(&state->value);
    for (uint32_t expert = 0; expert < experts; expert++) {
        float *features = &state->features[(first + expert) * NST_EXPERT_FEATURES];
        float earlier[NST_EXPERT_FEATURES];
        bool used = state->when[first + expert] == state->now;
        for (uint32_t i = 0; i < NST_EXPERT_FEATURES; i++) {
            earlier[i] = features[i];
        }
        update(features, used, chance_of(visit->probabilities[expert], visit->count));
        nst_expert_value_observe(&state->value, earlier, features, used, share);
    }
    nst_expert_value_end_visit(&state->value);
    for (uint64_t expert = first; expert < first + experts; expert++) {
        state->worth[expert] =
            nst_expert_value_of(&state->value, &state->features[expert * NST_EXPERT_FEATURES]);
    }
    compare_orders(state, visit);
}

static void expect(void *self, const nst_expert_visit *visit) {
    foresight *state = self;
    const uint64_t first = (uint64_t)visit->layer * state->shape.experts;
    for (uint32_t expert = 0; expert < state->shape.experts; expert++) {
        float chance = chance_of(visit->probabilities[expert], visit->count);
        float later = nst_expert_value_of(&state->value,
                                          &state->features[(first + expert) * NST_EXPERT_FEATURES]);
        state->worth[first + expert] = chance + (1.0f - chance) * DISCOUNT * later;
    }
}

static bool before(const void *self, uint32_t one, uint32_t other) {
    const foresight *state = self;
    return state->use_lru ? used_before(self, one, other) : worth_less(self, one, other);
}

const nst_expert_eviction nst_expert_evict_foresight = {.name = "foresight",
                                                        .state_bytes = state_bytes,
                                                        .start = start,
                                                        .route = route,
                                                        .expect = expect,
                                                        .before = before};
