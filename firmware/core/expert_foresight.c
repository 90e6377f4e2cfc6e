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
#include <string.h>

#include "expert_policies.h"
#include "expert_shadow.h"
#include "expert_value.h"
#include "expert_visits.h"
#include "exponential.h"

/* What a use a round of the layers later is worth, and its logarithm. */
#define DISCOUNT 0.6f
#define LOG_DISCOUNT -0.5108256f

/* Hits that LRU, or ours again, must be ahead of the other to be followed, and what remains of the
 * lead after a visit. LRU's margin is the smaller: in doubt it does no harm. */
#define LRU_LEAD_HITS 4.0f
#define OUR_LEAD_HITS 8.0f
#define LEAD_KEPT 0.9995f

typedef enum feature {
    ALWAYS,    /* 1 */
    USED_LONG, /* how often it was used lately, and ever */
    USED_EVER,
    RECENT, /* 1 at a use, less with every visit without */
    LIKELY, /* how near the router came to choosing it, now and on average */
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
    float *discount;     /* [layers] discount of a layer's next visit */
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
        state->discount[layer] = state->discounts[state->distances[layer]];
    }
}

static void start(void *self, const nst_expert_shape *shape) {
    foresight *state = self;
    const uint64_t count = nst_expert_count(shape);
    *state = (foresight){.shape = *shape};
    state->features = (float *)(void *)(state + 1);
    state->worth = state->features + count * NST_EXPERT_FEATURES;
    state->discount = state->worth + count;
    state->discounts = state->discount + shape->layers;
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

/* Logarithm to the base 2, to about 1e-7; of what is not a probability that of the smallest. */
static float log2_of(float probability) {
    float x = probability > 1e-30f && probability <= 1.0f ? probability : 1e-30f;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    /* x is m times a power of 2, m about 0.7 to 1.4. */
    uint32_t power = (bits + 0x4AFB0Du) >> 23;
    uint32_t m_bits = bits - (power << 23) + (127u << 23);
    float m;
    memcpy(&m, &m_bits, sizeof m);
    float s = (m - 1.0f) / (m + 1.0f);
    float t = s * s;
    float series = s * (1.0f + t * (0.33333333f + t * (0.2f + t * 0.14285714f)));
    return (float)(int32_t)(power - 127u) + 2.88539008f * series;
}

/* Learning costs more than all the rest of a visit, and weights that have settled change slowly: from
 * then on about one visit in so many is learnt from, drawn so that no layer is left out. */
#define SETTLED_VISITS 4096u
#define LEARNT_EVERY 4u

static bool learns(const foresight *state) {
    const uint32_t drawn = state->now * 2654435761u >> 16; /* of the golden ratio */
    return state->now < SETTLED_VISITS || drawn % LEARNT_EVERY == 0;
}

/* What a visit's probabilities are measured by, so that it matters as much who came close where a
 * router hardly tells experts apart as where it is sure. */
typedef struct measure {
    float mean;  /* of the logarithms */
    float reach; /* from there to the least likely that was chosen */
} measure;

/* `logarithms`: of the visit's probabilities, to be written; [experts]. */
static measure measure_of(const nst_expert_visit *visit, uint32_t experts, float *logarithms) {
    float sum = 0.0f;
    float least = 0.0f;
    for (uint32_t expert = 0; expert < experts; expert++) {
        logarithms[expert] = log2_of(visit->probabilities[expert]);
    }
    for (uint32_t expert = 0; expert < experts; expert++) {
        sum += logarithms[expert];
    }
    for (uint32_t i = 0; i < visit->count; i++) {
        float chosen = logarithms[visit->chosen[i]];
        least = chosen < least ? chosen : least;
    }
    float mean = sum / (float)experts;
    return (measure){.mean = mean, .reach = least - mean > 1e-6f ? least - mean : 1e-6f};
}

/* 0 for an average expert, 1 for the least likely that was chosen. */
static float nearness_of(float logarithm, measure by) {
    float near = (logarithm - by.mean) / by.reach;
    return near > -0.5f ? (near < 1.5f ? near : 1.5f) : -0.5f;
}

static void move(float *average, float newest, float weight) {
    *average += weight * (newest - *average);
}

static void update(float *features, bool used, float likely) {
    move(&features[USED_LONG], used ? 1.0f : 0.0f, LONG);
    move(&features[USED_EVER], used ? 1.0f : 0.0f, EVER);
    features[RECENT] = used ? 1.0f : features[RECENT] * RECENT_KEPT;
    features[LIKELY] = likely;
    move(&features[LIKELY_SHORT], likely, SHORT);
    move(&features[LIKELY_MEDIUM], likely, MEDIUM);
    move(&features[LIKELY_LONG], likely, LONG);
    features[RECENT_AND_MEDIUM] = features[RECENT] * features[LIKELY_MEDIUM];
    features[RECENT_AND_LIKELY] = features[RECENT] * features[LIKELY];
    features[RECENT_AND_EVER] = features[RECENT] * features[USED_EVER];
}

static bool worth_less(const void *self, uint32_t one, uint32_t other) {
    const foresight *state = self;
    float a = state->worth[one] * state->discount[one / state->shape.experts];
    float b = state->worth[other] * state->discount[other / state->shape.experts];
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
    /* What the experts were worth is of no use any more. */
    float *logarithms = &state->worth[first];
    const measure by = measure_of(visit, experts, logarithms);
    const bool learning = learns(state);
    if (learning) {
        nst_expert_value_begin_visit(&state->value);
    }
    for (uint32_t expert = 0; expert < experts; expert++) {
        float *features = &state->features[(first + expert) * NST_EXPERT_FEATURES];
        float earlier[NST_EXPERT_FEATURES];
        bool used = state->when[first + expert] == state->now;
        for (uint32_t i = 0; i < NST_EXPERT_FEATURES; i++) {
            earlier[i] = features[i];
        }
        update(features, used, nearness_of(logarithms[expert], by));
        if (learning) {
            nst_expert_value_observe(&state->value, earlier, features, used, share);
        }
    }
    if (learning) {
        nst_expert_value_end_visit(&state->value);
    }
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
