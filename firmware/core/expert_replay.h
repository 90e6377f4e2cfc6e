/* Replay of a recorded trace of routers through the real expert cache: what would have been hit,
 * with other room or another policy. Time is not replayed: bytes come at once. */
#ifndef NESTLING_CORE_EXPERT_REPLAY_H
#define NESTLING_CORE_EXPERT_REPLAY_H

#include "expert_cache.h"
#include "expert_sequence.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* Visits of layers, in the order in which they happened. */
typedef struct nst_expert_trace {
    uint32_t rows;
    uint32_t top_k;             /* experts that a token uses */
    const uint32_t *layers;     /* [rows] */
    const uint32_t *requests;   /* [rows] a number of each request's own */
    const float *probabilities; /* [rows][experts] of the router, mean over tokens */
    /* [rows][experts] 1: used by a token. Null: the top_k most probable, of equals the lower number,
     * which is what one token uses. */
    const uint8_t *chosen;
    /* What a predictor said at each row of a visit to come: of which layer ([rows]; NST_NONE:
     * nothing), and the probabilities ([rows][experts]). Both null: there was no predictor. */
    const uint32_t *predicted_layers;
    const float *predicted;
} nst_expert_trace;

typedef enum nst_expert_prefetch {
    NST_EXPERT_PREFETCH_NONE = 0,
    NST_EXPERT_PREFETCH_PREDICTED = 1, /* by the predictions in the trace */
    NST_EXPERT_PREFETCH_SEQUENCE = 2   /* by sequence statistics (expert_sequence.h) */
} nst_expert_prefetch;

/* Memory to work in, the caller's. */
typedef struct nst_expert_replay_room {
    uint32_t *chosen; /* [experts] */
    uint8_t *taken;   /* [experts] */
    float *chances;   /* [experts] */
} nst_expert_replay_room;

/* Run a trace through a started cache; what happened is added to cache->counts. Behind each visit
 * the top_k most likely experts of the predicted one are prefetched, as far as there is a
 * predictor. `sequence`: started for the same shape; null where `prefetch` is another.
 * NST_OK, NST_E_ARGUMENT (null, no such way to prefetch, or top_k is not 1..experts),
 * NST_E_NOT_FOUND (a layer that the shape does not have; the rows before it have run). */
int nst_expert_replay(nst_expert_cache *cache, const nst_expert_trace *trace, uint32_t prefetch,
                      nst_expert_sequence *sequence, const nst_expert_replay_room *room);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
