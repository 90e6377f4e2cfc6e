/* Which experts are in memory: the residency core of mixture-of-experts layers, the same on Linux
 * and on a microcontroller whose experts lie in flash.
 *
 * The cache holds no bytes. It says which slice of which expert belongs in which of the caller's
 * slots, which slot a new one takes, and counts what happened. A slot is empty, loading (claimed;
 * its bytes are under way) or ready. One layer of one request:
 *
 *     nst_expert_cache_route(&cache, &visit);                        the router has chosen
 *     uint32_t key = nst_expert_key(&cache.shape, layer, expert, 0);
 *     uint32_t slot = nst_expert_cache_find(&cache, key);
 *     if (slot == NST_NONE) {
 *         int code = nst_expert_cache_claim(&cache, key, NST_EXPERT_DEMAND, &slot);
 *         ... read the bytes into the slot; where that fails: nst_expert_cache_drop(&cache, slot)
 *         nst_expert_cache_ready(&cache, slot);
 *     }
 *     nst_expert_cache_pin(&cache, slot);  ... compute ...  nst_expert_cache_unpin(&cache, slot);
 *
 * Look for all chosen experts, and use those that are there, before claiming slots for the others:
 * a claim may evict what the same layer is about to look for. Then room for one expert is enough.
 *
 * Plain C11, no heap: the caller gives the memory. Not thread-safe: where several threads or
 * sessions share a cache, the caller holds a lock during each call. Slot and key numbers out of
 * range do nothing.
 */
#ifndef NESTLING_CORE_EXPERT_CACHE_H
#define NESTLING_CORE_EXPERT_CACHE_H

#include "bundle.h"
#include "expert_eviction.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef enum nst_expert_slot_state {
    NST_EXPERT_EMPTY = 0,
    NST_EXPERT_LOADING = 1, /* claimed; may be pinned, is not evicted */
    NST_EXPERT_READY = 2
} nst_expert_slot_state;

typedef struct nst_expert_slot {
    uint32_t key;     /* NST_NONE where it is empty */
    uint32_t pins;    /* above 0: not evicted, and not claimed once dropped */
    uint8_t state;    /* an nst_expert_slot_state */
    uint8_t ahead;    /* 1: claimed by a prefetch, not found since */
    uint8_t awaited;  /* 1: prefetched or chosen for a visit, and not found since; goes last */
    uint8_t reserved; /* zero */
} nst_expert_slot;

/* What happened since the start or nst_expert_cache_reset_counts. Each look-up is a hit, late or a
 * miss. */
typedef struct nst_expert_counts {
    uint64_t hits;          /* found ready */
    uint64_t late;          /* found loading: a prefetch, or another request, has asked for it */
    uint64_t misses;        /* not found */
    uint64_t evictions;     /* residents that gave their slot away */
    uint64_t prefetched;    /* claims by a prefetch */
    uint64_t prefetch_used; /* of these, found before they were evicted */
} nst_expert_counts;

/* Fill with nst_expert_cache_init; read only. */
typedef struct nst_expert_cache {
    nst_expert_shape shape;
    const nst_expert_eviction *eviction;
    void *policy;           /* of eviction->state_bytes, in the caller's memory, as are: */
    nst_expert_slot *slots; /* [shape.slots] */
    uint32_t *slot_of;      /* [keys] NST_NONE where it is not resident */
    uint32_t keys;          /* layers x experts x slices */
    nst_expert_counts counts;
} nst_expert_cache;

typedef enum nst_expert_purpose {
    NST_EXPERT_DEMAND = 0,  /* a request waits for it */
    NST_EXPERT_PREFETCH = 1 /* it may be needed; it may be needed; takes no awaited slot */
} nst_expert_purpose;

/* The key of a slice of an expert; within the shape by the caller's care. */
static inline uint32_t nst_expert_key(const nst_expert_shape *shape, uint32_t layer,
                                      uint32_t expert, uint32_t slice) {
    return (layer * shape->experts + expert) * shape->slices + slice;
}

/* Memory that a cache needs, in bytes; 0 where the shape is out of its limits. */
uint64_t nst_expert_cache_bytes(const nst_expert_shape *shape, const nst_expert_eviction *eviction);

/* Start with every slot empty. `memory`: aligned to 8 bytes; it must outlive the cache.
 * NST_OK, NST_E_ARGUMENT (null, misaligned, or a shape out of its limits), NST_E_LIMIT (`bytes` is
 * less than nst_expert_cache_bytes). */
int nst_expert_cache_init(nst_expert_cache *cache, const nst_expert_shape *shape,
                          const nst_expert_eviction *eviction, void *memory, size_t bytes);

/* A request starts anew under this number: what policies know of the one before is put away. */
void nst_expert_cache_begin_request(nst_expert_cache *cache, uint32_t request);

/* A router has spoken: call it before the look-ups of that layer. Residents that it chose are
 * awaited until they are found, and evicted after all others; prefetches for this layer that it did
 * not choose are awaited no more. False, and nothing changes, where a pointer is null, or the layer
 * or an expert is out of range. */
bool nst_expert_cache_route(nst_expert_cache *cache, const nst_expert_visit *visit);

/* A predictor has spoken: what the router of a later layer of this forward is likely to say.
 * `visit->probabilities` are the predicted ones, `visit->count` is how many experts it will choose;
 * `visit->chosen` is not looked at. False as in nst_expert_cache_route. */
bool nst_expert_cache_expect(nst_expert_cache *cache, const nst_expert_visit *visit);

/* Look for a slice: its slot, ready or loading; NST_NONE where it is not there. Counts, and the
 * policy hears of the use. */
uint32_t nst_expert_cache_find(nst_expert_cache *cache, uint32_t key);

/* A visit to come is likely to look for a slice: a resident is awaited from now on. Its slot; NST_NONE
 * where it is not there, and worth a prefetch. Await all that are predicted before claiming slots
 * for those that are missing. */
uint32_t nst_expert_cache_await(nst_expert_cache *cache, uint32_t key);

/* The slot of a slice, ready or loading; NST_NONE where it is not there. Nothing changes. */
uint32_t nst_expert_cache_peek(const nst_expert_cache *cache, uint32_t key);

/* Take a slot for a slice that is not resident; it is then loading. An empty one where there is
 * one, or that of the resident that the policy gives away.
 * NST_OK, NST_E_STATE (it is resident or loading; *slot is where), NST_E_BUDGET (every slot is
 * pinned or loading, or, for a prefetch, awaited),
 * NST_E_ARGUMENT (null, or no such key). */
int nst_expert_cache_claim(nst_expert_cache *cache, uint32_t key, nst_expert_purpose purpose,
                           uint32_t *slot);

/* The bytes of a loading slot are there. False for any other slot. */
bool nst_expert_cache_ready(nst_expert_cache *cache, uint32_t slot);

/* Forget what a slot holds, loading or ready: its bytes did not come, or are wrong. Pins stay until
 * they are taken away; no claim takes the slot before. False where it is empty. */
bool nst_expert_cache_drop(nst_expert_cache *cache, uint32_t slot);

/* Hold a slot that is loading or ready; false for an empty one. Pins count. */
bool nst_expert_cache_pin(nst_expert_cache *cache, uint32_t slot);

/* Take one pin away; false where there is none. */
bool nst_expert_cache_unpin(nst_expert_cache *cache, uint32_t slot);

/* Count from zero again; residents stay. */
void nst_expert_cache_reset_counts(nst_expert_cache *cache);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
