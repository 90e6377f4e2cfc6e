/* Which resident expert gives its slot to another: policies of the expert cache (expert_cache.h).
 *
 * A policy is a few functions and the memory that they remember in. It hears which experts the
 * router chose (`route`), what it is likely to choose (`expect`), which experts were used (`use`),
 * and answers one question: of two residents, which one goes first (`before`). Experts are numbered
 * layer x shape.experts + expert.
 *
 * Plain C11, no heap: the caller gives the memory. Not thread-safe.
 */
#ifndef NESTLING_CORE_EXPERT_EVICTION_H
#define NESTLING_CORE_EXPERT_EVICTION_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* Requests whose state policies keep apart; request numbers count modulo this. */
#define NST_EXPERT_REQUESTS 8u
/* Of experts x slices in all layers. */
#define NST_EXPERT_MAX_KEYS (1u << 24)

/* What there is to keep, and room for how much of it. Every number is at least 1, and at most
 * NST_EXPERT_MAX_KEYS, which layers x experts x slices and slots do not exceed either. */
typedef struct nst_expert_shape {
    uint32_t layers;
    uint32_t experts; /* of the layer that has most */
    uint32_t slices;  /* of an expert, each with a slot of its own; 1 or 2 */
    uint32_t slots;
} nst_expert_shape;

/* A visit of a layer by a request: what its router said. */
typedef struct nst_expert_visit {
    uint32_t request;
    uint32_t layer;
    const float *probabilities; /* [shape.experts] of each expert, mean over tokens; 0..1 */
    const uint32_t *chosen;     /* [count] experts of this layer, each once */
    uint32_t count;
} nst_expert_visit;

typedef struct nst_expert_eviction {
    const char *name; /* as on a command line */
    /* Memory that it needs, in bytes; shapes are within their limits. */
    uint64_t (*state_bytes)(const nst_expert_shape *shape);
    /* Start with no knowledge in memory of that size, aligned to 8 bytes. */
    void (*start)(void *self, const nst_expert_shape *shape);
    /* Null in a policy that does not listen: */
    void (*begin)(void *self, uint32_t request);               /* a request starts anew */
    void (*route)(void *self, const nst_expert_visit *visit);  /* before its look-ups */
    void (*expect)(void *self, const nst_expert_visit *visit); /* a visit to come; count: top k */
    void (*use)(void *self, uint32_t expert);                  /* found, or brought in */
    bool (*before)(const void *self, uint32_t one, uint32_t other); /* whether `one` goes first */
} nst_expert_eviction;

typedef enum nst_expert_policy {
    NST_EXPERT_LRU = 0, /* least recently used */
    NST_EXPERT_LFU = 1, /* least frequently used, of equals the least recently */
    NST_EXPERT_LEAST_STALE =
        2, /* of the layer that is visited last again (SpecMD, arXiv:2602.03921) */
    NST_EXPERT_ACTIVATION = 3, /* by activation matrices (MoE-Infinity, arXiv:2401.14361) */
    NST_EXPERT_FORESIGHT = 4,  /* ours: by the expected time of the next use */
    NST_EXPERT_POLICIES = 5
} nst_expert_policy;

/* A policy by its number, null for others; static. Names: "lru", "lfu", "least-stale",
 * "activation", "foresight". */
const nst_expert_eviction *nst_expert_eviction_at(uint32_t policy);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
