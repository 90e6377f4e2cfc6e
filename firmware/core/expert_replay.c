#include "expert_replay.h"

/* The `top_k` largest numbers of a row that are above zero, of equals the first. */
static uint32_t choose(const float *row, uint32_t experts, uint32_t top_k,
                       const nst_expert_replay_room *room) {
    uint32_t count = 0;
    for (uint32_t expert = 0; expert < experts; expert++) {
        room->taken[expert] = 0;
    }
    while (count < top_k) {
        uint32_t best = NST_NONE;
        for (uint32_t expert = 0; expert < experts; expert++) {
            if (!room->taken[expert] && row[expert] > 0 &&
                (best == NST_NONE || row[expert] > row[best])) {
                best = expert;
            }
        }
        if (best == NST_NONE) {
            break;
        }
        room->taken[best] = 1;
        room->chosen[count++] = best;
    }
    return count;
}

static uint32_t chosen_of(const nst_expert_trace *trace, uint32_t row, uint32_t experts,
                          const nst_expert_replay_room *room) {
    size_t first = (size_t)row * experts;
    uint32_t count = 0;
    if (trace->chosen == NULL) {
        return choose(trace->probabilities + first, experts, trace->top_k, room);
    }
    for (uint32_t expert = 0; expert < experts; expert++) {
        if (trace->chosen[first + expert]) {
            room->chosen[count++] = expert;
        }
    }
    return count;
}

/* Use the chosen experts of a visit: those that are there first, as a store does. */
static void use(nst_expert_cache *cache, const nst_expert_visit *visit, uint8_t *missing) {
    const nst_expert_shape *shape = &cache->shape;
    uint32_t slot;
    for (uint32_t i = 0; i < visit->count; i++) {
        missing[i] = 0;
        for (uint32_t slice = 0; slice < shape->slices; slice++) {
            uint32_t key = nst_expert_key(shape, visit->layer, visit->chosen[i], slice);
            if (nst_expert_cache_find(cache, key) == NST_NONE) {
                missing[i] |= (uint8_t)(1u << slice);
            }
        }
    }
    for (uint32_t i = 0; i < visit->count; i++) {
        for (uint32_t slice = 0; slice < shape->slices; slice++) {
            uint32_t key = nst_expert_key(shape, visit->layer, visit->chosen[i], slice);
            if ((missing[i] >> slice & 1) != 0 &&
                nst_expert_cache_claim(cache, key, NST_EXPERT_DEMAND, &slot) == NST_OK) {
                nst_expert_cache_ready(cache, slot);
            }
        }
    }
}

/* Tell the policy what is predicted, and fetch it. */
static void fetch_ahead(nst_expert_cache *cache, uint32_t request, uint32_t layer,
                        const float *predicted, uint32_t top_k,
                        const nst_expert_replay_room *room) {
    const nst_expert_shape *shape = &cache->shape;
    nst_expert_visit visit = {
        .request = request, .layer = layer, .probabilities = predicted, .count = top_k};
    uint32_t slot;
    if (!nst_expert_cache_expect(cache, &visit)) {
        return;
    }
    uint32_t count = choose(predicted, shape->experts, top_k, room);
    for (uint32_t i = 0; i < count * shape->slices; i++) {
        nst_expert_cache_await(cache, nst_expert_key(shape, layer, room->chosen[i / shape->slices],
                                                     i % shape->slices));
    }
    for (uint32_t i = 0; i < count * shape->slices; i++) {
        uint32_t key =
            nst_expert_key(shape, layer, room->chosen[i / shape->slices], i % shape->slices);
        if (nst_expert_cache_claim(cache, key, NST_EXPERT_PREFETCH, &slot) == NST_OK) {
            nst_expert_cache_ready(cache, slot);
        }
    }
}

static void prefetch_row(nst_expert_cache *cache, const nst_expert_trace *trace, uint32_t row,
                         uint32_t prefetch, nst_expert_sequence *sequence,
                         const nst_expert_replay_room *room) {
    uint32_t request = trace->requests[row];
    if (prefetch == NST_EXPERT_PREFETCH_PREDICTED && trace->predicted_layers[row] != NST_NONE) {
        fetch_ahead(cache, request, trace->predicted_layers[row],
                    trace->predicted + (size_t)row * cache->shape.experts, trace->top_k, room);
    }
    if (prefetch == NST_EXPERT_PREFETCH_SEQUENCE) {
        uint32_t layer = nst_expert_sequence_predict(sequence, request, room->chances);
        /* Chances of being among top_k, where a policy expects a router's probabilities. */
        for (uint32_t expert = 0; expert < cache->shape.experts; expert++) {
            room->chances[expert] /= (float)trace->top_k;
        }
        fetch_ahead(cache, request, layer, room->chances, trace->top_k, room);
    }
}

static bool arguments_are_sound(const nst_expert_cache *cache, const nst_expert_trace *trace,
                                uint32_t prefetch, const nst_expert_sequence *sequence,
                                const nst_expert_replay_room *room) {
    if (cache == NULL || trace == NULL || room == NULL || room->chosen == NULL ||
        room->taken == NULL || room->chances == NULL || trace->layers == NULL ||
        trace->requests == NULL || trace->probabilities == NULL || trace->top_k == 0 ||
        trace->top_k > cache->shape.experts) {
        return false;
    }
    switch (prefetch) {
        case NST_EXPERT_PREFETCH_NONE:
            return true;
        case NST_EXPERT_PREFETCH_PREDICTED:
            return trace->predicted_layers != NULL && trace->predicted != NULL;
        case NST_EXPERT_PREFETCH_SEQUENCE:
            return sequence != NULL && sequence->layers == cache->shape.layers &&
                   sequence->experts == cache->shape.experts;
        default:
            return false;
    }
}

int nst_expert_replay(nst_expert_cache *cache, const nst_expert_trace *trace, uint32_t prefetch,
                      nst_expert_sequence *sequence, const nst_expert_replay_room *room) {
    uint32_t running[NST_EXPERT_REQUESTS];
    if (!arguments_are_sound(cache, trace, prefetch, sequence, room)) {
        return NST_E_ARGUMENT;
    }
    const uint32_t experts = cache->shape.experts;
    for (uint32_t i = 0; i < NST_EXPERT_REQUESTS; i++) {
        running[i] = NST_NONE;
    }
    for (uint32_t row = 0; row < trace->rows; row++) {
        uint32_t request = trace->requests[row];
        nst_expert_visit visit = {.request = request,
                                  .layer = trace->layers[row],
                                  .probabilities = trace->probabilities + (size_t)row * experts,
                                  .chosen = room->chosen,
                                  .count = chosen_of(trace, row, experts, room)};
        if (running[request % NST_EXPERT_REQUESTS] != request) {
            running[request % NST_EXPERT_REQUESTS] = request;
            nst_expert_cache_begin_request(cache, request);
            if (sequence != NULL) {
                nst_expert_sequence_begin_request(sequence, request);
            }
        }
        if (!nst_expert_cache_route(cache, &visit)) {
            return NST_E_NOT_FOUND;
        }
        use(cache, &visit, room->taken);
        if (sequence != NULL) {
            nst_expert_sequence_note(sequence, &visit);
        }
        prefetch_row(cache, trace, row, prefetch, sequence, room);
    }
    return NST_OK;
}
