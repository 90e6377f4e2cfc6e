/* Which experts come next, by what came next before: a predictor for layers whose routers cannot be
 * asked ahead (EdgeMoE's path statistics, arXiv:2308.14352, for pairs of neighbouring layers).
 *
 * For each expert of a layer the table counts which experts the same request used in the next layer
 * (behind the last one: in layer 0 of the next token). A prediction is the mean of the rows of the
 * experts that were chosen. The counts of a row are halved every so often, so that the table follows
 * a change of what is asked.
 *
 * Plain C11, no heap: the caller gives the memory, two bytes for each pair of experts in
 * neighbouring layers. Not thread-safe.
 */
#ifndef NESTLING_CORE_EXPERT_SEQUENCE_H
#define NESTLING_CORE_EXPERT_SEQUENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "expert_eviction.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* Chosen experts of a visit that are remembered until the next; of more, the first. */
#define NST_EXPERT_SEQUENCE_CHOSEN 16u

/* The visit before of one request. */
typedef struct nst_expert_step {
    uint32_t layer; /* NST_NONE without any */
    uint32_t count;
    uint32_t chosen[NST_EXPERT_SEQUENCE_CHOSEN];
} nst_expert_step;

/* Fill with nst_expert_sequence_init; read only. */
typedef struct nst_expert_sequence {
    uint32_t layers;
    uint32_t experts; /* of the layer that has most */
    /* [layers][experts][1 + experts]: visits that followed a use of an expert, and how many of
     * them used each expert of the next layer. */
    uint16_t *counts;
    nst_expert_step steps[NST_EXPERT_REQUESTS];
} nst_expert_sequence;

/* Memory for a table, in bytes; 0 where the shape is out of the limits of nst_expert_shape, or the
 * table over 2^32 - 1 bytes. */
uint64_t nst_expert_sequence_bytes(const nst_expert_shape *shape);

/* Start with nothing counted. `memory`: aligned to 2 bytes; it must outlive the table.
 * NST_OK, NST_E_ARGUMENT (null, misaligned, no sound shape), NST_E_LIMIT (`bytes` is too few). */
int nst_expert_sequence_init(nst_expert_sequence *sequence, const nst_expert_shape *shape,
                             void *memory, size_t bytes);

/* A request starts anew: what it visits first follows nothing. */
void nst_expert_sequence_begin_request(nst_expert_sequence *sequence, uint32_t request);

/* Count a visit behind the request's visit before. False, and nothing changes, where a pointer is
 * null, or the layer or an expert is out of range. `visit->probabilities` is not looked at. */
bool nst_expert_sequence_note(nst_expert_sequence *sequence, const nst_expert_visit *visit);

/* What follows the visit that `request` made last, as chances: `out`: [experts], each 0..1, the
 * mean over the experts chosen last of how often each came next; zeros where nothing was counted.
 * Returns the layer that they are for, NST_NONE where the request has visited none. */
uint32_t nst_expert_sequence_predict(const nst_expert_sequence *sequence, uint32_t request,
                                     float *out);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
