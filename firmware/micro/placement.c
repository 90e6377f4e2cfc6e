/* Where things lie in the arena.
 *
 * A slot is alive from the first position that writes it to the last that reads it; inputs and states always are, an
 * output is to the end. A stage's own arena is alive at its positions. Things that are alive at one position lie
 * apart; two stages may share memory, since one runs at a time. Slots are placed first, each at the lowest offset
 * that is free, then the stages. Which stages a path has does not matter, so all paths use one layout. */
#include "micro/model.h"

#define BUFFERS 2u

static uint64_t align(uint64_t value) {
    return (value + NST_PLAN_ALIGNMENT - 1) / NST_PLAN_ALIGNMENT * NST_PLAN_ALIGNMENT;
}

/* The end of a buffer among the first `count` (two a slot) that is in the way of `bytes` bytes at `offset` in positions
 * first..last; 0 when nothing is. */
static uint64_t obstacle(const nst_micro_slot *slots, uint32_t count, uint64_t offset,
                         uint64_t bytes, uint32_t first, uint32_t last) {
    for (uint32_t i = 0; i < count; i++) {
        const nst_micro_slot *slot = &slots[i / BUFFERS];
        const uint64_t start = slot->offset[i % BUFFERS];
        if (slot->first <= last && first <= slot->last && start < offset + bytes &&
            offset < start + slot->bytes) {
            return align(start + slot->bytes);
        }
    }
    return 0;
}

static uint64_t lowest(const nst_micro_slot *slots, uint32_t count, uint64_t bytes, uint32_t first,
                       uint32_t last) {
    uint64_t offset = 0;
    uint64_t end;
    while (bytes > 0 && (end = obstacle(slots, count, offset, bytes, first, last)) != 0) {
        offset = end;
    }
    return offset;
}

void nst_micro_place(nst_micro_model *model, uint32_t *out_neediest) {
    const nst_bundle *bundle = &model->bundle;
    const uint32_t slot_count = bundle->count[NST_SLOTS];
    uint64_t most = 0;
    *out_neediest = NST_NONE;
    for (uint32_t i = 0; i < slot_count; i++) {
        nst_micro_slot *slot = &model->slots[i];
        for (uint32_t buffer = 0; buffer < (slot->two ? 2u : 1u); buffer++) {
            const uint64_t at =
                lowest(model->slots, i * BUFFERS + buffer, slot->bytes, slot->first, slot->last);
            slot->offset[buffer] = (uint32_t)at;
            most = at + slot->bytes > most ? at + slot->bytes : most;
        }
        if (!slot->two) {
            slot->offset[1] = slot->offset[0];
        }
    }
    for (uint32_t i = 0; i < bundle->count[NST_STAGES]; i++) {
        nst_micro_stage *stage = &model->stages[i];
        nst_stage_info info;
        if (nst_bundle_stage(bundle, i, &info) != NST_OK) {
            continue; /* it was read before, and flash does not change */
        }
        const uint64_t at = lowest(model->slots, slot_count * BUFFERS, stage->plan.arena_bytes,
                                   info.first, info.last);
        stage->arena = (uint32_t)at;
        if (at + stage->plan.arena_bytes > most) {
            most = at + stage->plan.arena_bytes;
            *out_neediest = i;
        }
    }
    model->arena_bytes = align(most);
}
