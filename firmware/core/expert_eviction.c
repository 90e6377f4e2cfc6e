#include "expert_eviction.h"

#include <stddef.h>

#include "expert_policies.h"

const nst_expert_eviction *nst_expert_eviction_at(uint32_t policy) {
    static const nst_expert_eviction *const policies[NST_EXPERT_POLICIES] = {
        [NST_EXPERT_LRU] = &nst_expert_evict_lru,
        [NST_EXPERT_LFU] = &nst_expert_evict_lfu,
        [NST_EXPERT_LEAST_STALE] = &nst_expert_evict_least_stale,
        [NST_EXPERT_ACTIVATION] = &nst_expert_evict_activation,
        [NST_EXPERT_FORESIGHT] = &nst_expert_evict_foresight,
    };
    return policy < NST_EXPERT_POLICIES ? policies[policy] : NULL;
}
