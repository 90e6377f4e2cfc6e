#include "expert_shadow.h"

#include "bundle.h"
#include "expert_policies.h"

/* Slices of an expert count as one. */
static uint32_t slots_of(const nst_expert_shape *shape) {
    uint32_t slots = shape->slots / shape->slices;
    return slots > 0 ? slots : 1;
}

uint64_t nst_expert_shadow_bytes(const nst_expert_shape *shape) {
    return (slots_of(shape) + nst_expert_count(shape)) * sizeof(uint32_t);
}

void nst_expert_shadow_start(nst_expert_shadow *shadow, const nst_expert_shape *shape,
                             void *memory) {
    *shadow = (nst_expert_shadow){.experts = memory, .slots = slots_of(shape)};
    shadow->slot_of = shadow->experts + shadow->slots;
    for (uint64_t expert = 0; expert < nst_expert_count(shape); expert++) {
        shadow->slot_of[expert] = NST_NONE;
    }
}

uint32_t nst_expert_shadow_visit(nst_expert_shadow *shadow, const nst_expert_visit *visit,
                                 uint32_t experts,
                                 bool (*before)(const void *self, uint32_t one, uint32_t other),
                                 const void *self) {
    const uint32_t first = visit->layer * experts;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < visit->count; i++) {
        kept += shadow->slot_of[first + visit->chosen[i]] != NST_NONE;
    }
    for (uint32_t i = 0; i < visit->count; i++) {
        uint32_t expert = first + visit->chosen[i];
        uint32_t slot = 0;
        if (shadow->slot_of[expert] != NST_NONE) {
            continue;
        }
        if (shadow->filled < shadow->slots) {
            slot = shadow->filled++;
        } else {
            for (uint32_t other = 1; other < shadow->slots; other++) {
                if (before(self, shadow->experts[other], shadow->experts[slot])) {
                    slot = other;
                }
            }
            shadow->slot_of[shadow->experts[slot]] = NST_NONE;
        }
        shadow->experts[slot] = expert;
        shadow->slot_of[expert] = slot;
    }
    return kept;
}
