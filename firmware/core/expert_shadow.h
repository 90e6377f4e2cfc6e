/* What another policy would have kept: a cache of numbers alone, as large as the real one, which
 * the same visits run through. It tells a policy how well another one does. */
#ifndef NESTLING_CORE_EXPERT_SHADOW_H
#define NESTLING_CORE_EXPERT_SHADOW_H

#include "expert_eviction.h"

typedef struct nst_expert_shadow {
    uint32_t *experts; /* [slots] that are kept */
    uint32_t *slot_of; /* [layers x experts] NST_NONE where it is not kept */
    uint32_t slots;
    uint32_t filled;
} nst_expert_shadow;

/* Of a shadow's memory, in bytes; a multiple of 4, which is how it is aligned. */
uint64_t nst_expert_shadow_bytes(const nst_expert_shape *shape);
void nst_expert_shadow_start(nst_expert_shadow *shadow, const nst_expert_shape *shape,
                             void *memory);

/* Use the experts of a visit; `experts`: of a layer. `before(self, one, other)`: as in
 * nst_expert_eviction. Returns how many of them were kept. O(slots) for each that was not. */
uint32_t nst_expert_shadow_visit(nst_expert_shadow *shadow, const nst_expert_visit *visit,
                                 uint32_t experts,
                                 bool (*before)(const void *self, uint32_t one, uint32_t other),
                                 const void *self);

#endif
