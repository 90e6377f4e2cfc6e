/* Priority by activation matrices, after MoE-Infinity (arXiv:2401.14361): a request's matrix counts,
 * layer by layer, which experts it used. The matrix most like it among those of earlier requests (by
 * cosine) predicts what it will use; a resident's priority is its part of its layer's uses in both,
 * less the further away its layer is: times 1 - (i - l) / L, counted round the layers. As there, a
 * full collection gives up the matrix that is most like the new one.
 *
 * The scalar products behind the cosines are kept up to date use by use, so a visit costs one
 * addition for each chosen expert and matrix. */
#include <stddef.h>

#include "expert_policies.h"
#include "expert_visits.h"

#define MATRICES 16u
#define NO_MATRIX MATRICES
/* Part of an expert without uses: so that distance orders those, too. */
#define UNSEEN 0.001f

typedef struct matrix {
    uint16_t *counts;   /* [layers x experts] saturating */
    uint32_t *of_layer; /* [layers] their sums */
    uint64_t square;    /* sum of the squares of counts */
} matrix;

typedef struct follower {
    matrix own;
    uint64_t products[MATRICES]; /* with each of the collection */
    uint32_t best;               /* the one most like it, NO_MATRIX without any */
} follower;

typedef struct activation {
    nst_expert_visits visits;
    nst_expert_shape shape;
    follower requests[NST_EXPERT_REQUESTS];
    matrix collection[MATRICES];
    uint32_t filled;     /* of the collection */
    uint32_t current;    /* request that visited a layer last */
    uint32_t now;        /* uses so far */
    uint32_t *when;      /* [layers x experts] of the last use */
    uint32_t *distances; /* [layers] */
} activation;

static uint64_t matrix_bytes(const nst_expert_shape *shape) {
    uint64_t counts = nst_expert_count(shape) * sizeof(uint16_t);
    return (counts + 3) / 4 * 4 + shape->layers * sizeof(uint32_t);
}

static uint64_t state_bytes(const nst_expert_shape *shape) {
    return sizeof(activation) + (MATRICES + NST_EXPERT_REQUESTS) * matrix_bytes(shape) +
           nst_expert_count(shape) * sizeof(uint32_t) + shape->layers * sizeof(uint32_t);
}

static void clear(const nst_expert_shape *shape, matrix *out) {
    for (uint64_t expert = 0; expert < nst_expert_count(shape); expert++) {
        out->counts[expert] = 0;
    }
    for (uint32_t layer = 0; layer < shape->layers; layer++) {
        out->of_layer[layer] = 0;
    }
    out->square = 0;
}

/* Give a matrix its arrays, from `*at` on, and clear it. */
static void place(const nst_expert_shape *shape, uint8_t **at, matrix *out) {
    out->of_layer = (uint32_t *)(void *)*at;
    out->counts = (uint16_t *)(void *)(*at + shape->layers * sizeof(uint32_t));
    *at += matrix_bytes(shape);
    clear(shape, out);
}

static void start(void *self, const nst_expert_shape *shape) {
    activation *state = self;
    uint8_t *at = (uint8_t *)(state + 1);
    *state = (activation){.shape = *shape};
    for (uint32_t i = 0; i < NST_EXPERT_REQUESTS; i++) {
        place(shape, &at, &state->requests[i].own);
        state->requests[i].best = NO_MATRIX;
    }
    for (uint32_t i = 0; i < MATRICES; i++) {
        place(shape, &at, &state->collection[i]);
    }
    state->when = (uint32_t *)(void *)at;
    state->distances = state->when + nst_expert_count(shape);
    for (uint64_t expert = 0; expert < nst_expert_count(shape); expert++) {
        state->when[expert] = 0;
    }
    nst_expert_visits_start(&state->visits, shape);
    nst_expert_visits_distances(&state->visits, state->distances);
}

static uint64_t product(const nst_expert_shape *shape, const matrix *one, const matrix *other) {
    uint64_t sum = 0;
    for (uint64_t expert = 0; expert < nst_expert_count(shape); expert++) {
        sum += (uint64_t)one->counts[expert] * other->counts[expert];
    }
    return sum;
}

/* Of one request the length is the same for all, so cosines compare without it. */
static void find_best(const activation *state, follower *request) {
    float best = -1.0f;
    request->best = NO_MATRIX;
    for (uint32_t i = 0; i < state->filled; i++) {
        float scalar = (float)request->products[i];
        float likeness = scalar * scalar / (float)state->collection[i].square;
        if (likeness > best) {
            best = likeness;
            request->best = i;
        }
    }
}

/* Put the finished matrix of a request into the collection. */
static void collect(activation *state, const follower *request) {
    uint32_t into = state->filled < MATRICES ? state->filled++ : request->best;
    matrix *taken = &state->collection[into];
    for (uint64_t expert = 0; expert < nst_expert_count(&state->shape); expert++) {
        taken->counts[expert] = request->own.counts[expert];
    }
    for (uint32_t layer = 0; layer < state->shape.layers; layer++) {
        taken->of_layer[layer] = request->own.of_layer[layer];
    }
    taken->square = request->own.square;
    for (uint32_t i = 0; i < NST_EXPERT_REQUESTS; i++) {
        follower *other = &state->requests[i];
        other->products[into] = product(&state->shape, &other->own, taken);
        find_best(state, other);
    }
}

static void begin(void *self, uint32_t number) {
    activation *state = self;
    follower *request = &state->requests[number];
    if (request->own.square > 0) {
        collect(state, request);
    }
    clear(&state->shape, &request->own);
    for (uint32_t i = 0; i < MATRICES; i++) {
        request->products[i] = 0;
    }
    find_best(state, request);
}

static void route(void *self, const nst_expert_visit *visit) {
    activation *state = self;
    follower *request = &state->requests[visit->request];
    nst_expert_visits_note(&state->visits, visit);
    nst_expert_visits_distances(&state->visits, state->distances);
    state->current = visit->request;
    for (uint32_t i = 0; i < visit->count; i++) {
        uint64_t expert = (uint64_t)visit->layer * state->shape.experts + visit->chosen[i];
        uint16_t *count = &request->own.counts[expert];
        if (*count == UINT16_MAX) {
            continue;
        }
        request->own.square += 2u * *count + 1u;
        request->own.of_layer[visit->layer]++;
        ++*count;
        for (uint32_t other = 0; other < state->filled; other++) {
            request->products[other] += state->collection[other].counts[expert];
        }
    }
    find_best(state, request);
}

static void note_use(void *self, uint32_t expert) {
    activation *state = self;
    state->when[expert] = ++state->now;
}

/* An expert's part of its layer's uses in a matrix. */
static float part_of(const matrix *counts, uint64_t expert, uint32_t layer) {
    return (float)counts->counts[expert] / ((float)counts->of_layer[layer] + 1.0f);
}

static float priority(const activation *state, uint32_t expert) {
    const follower *request = &state->requests[state->current];
    uint32_t layer = expert / state->shape.experts;
    float part = UNSEEN + part_of(&request->own, expert, layer);
    if (request->best != NO_MATRIX) {
        part += part_of(&state->collection[request->best], expert, layer);
    }
    return part * (float)(state->shape.layers - state->distances[layer]);
}

static bool before(const void *self, uint32_t one, uint32_t other) {
    const activation *state = self;
    float a = priority(state, one);
    float b = priority(state, other);
    if (a != b) {
        return a < b;
    }
    return state->when[one] - state->when[other] > UINT32_MAX / 2;
}

const nst_expert_eviction nst_expert_evict_activation = {.name = "activation",
                                                         .state_bytes = state_bytes,
                                                         .start = start,
                                                         .begin = begin,
                                                         .route = route,
                                                         .use = note_use,
                                                         .before = before};
