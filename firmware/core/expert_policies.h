/* The policies of the expert cache one by one: a small device that names the one it uses keeps the
 * others out of its flash. All others ask nst_expert_eviction_at. */
#ifndef NESTLING_CORE_EXPERT_POLICIES_H
#define NESTLING_CORE_EXPERT_POLICIES_H

#include "expert_eviction.h"

extern const nst_expert_eviction nst_expert_evict_lru;         /* expert_use_order.c */
extern const nst_expert_eviction nst_expert_evict_lfu;         /* expert_use_order.c */
extern const nst_expert_eviction nst_expert_evict_least_stale; /* expert_use_order.c */
extern const nst_expert_eviction nst_expert_evict_activation;  /* expert_activation.c */
extern const nst_expert_eviction nst_expert_evict_foresight;   /* expert_foresight.c */

static inline uint64_t nst_expert_count(const nst_expert_shape *shape) {
    return (uint64_t)shape->layers * shape->experts;
}

#endif
