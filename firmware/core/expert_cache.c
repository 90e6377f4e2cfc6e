#include "expert_cache.h"

#include "checked.h"

#define ALIGNMENT 8u

/* Where the parts of a cache's memory begin. */
typedef struct parts {
    uint64_t slots;
    uint64_t slot_of;
    uint64_t policy;
    uint64_t bytes;
} parts;

static bool shape_is_sound(const nst_expert_shape *shape) {
    uint64_t keys;
    return shape->layers > 0 && shape->experts > 0 && shape->slots > 0 &&
           shape->slots <= NST_EXPERT_MAX_KEYS && (shape->slices == 1 || shape->slices == 2) &&
           nst_mul_u64(shape->layers, shape->experts, &keys) &&
           nst_mul_u64(keys, shape->slices, &keys) && keys <= NST_EXPERT_MAX_KEYS;
}

/* Append a part of so many bytes; false where the sum wraps. */
static bool append(uint64_t *end, uint64_t bytes, uint64_t *out_begin) {
    *out_begin = *end;
    return nst_add_u64(*end, bytes, end) && nst_align_u64(*end, ALIGNMENT, end);
}

static bool lay_out(const nst_expert_shape *shape, const nst_expert_eviction *eviction,
                    parts *out) {
    if (shape == NULL || eviction == NULL || !shape_is_sound(shape)) {
        return false;
    }
    /* No product wraps: shapes have limits. */
    uint64_t keys = (uint64_t)shape->layers * shape->experts * shape->slices;
    *out = (parts){.bytes = 0};
    return append(&out->bytes, shape->slots * sizeof(nst_expert_slot), &out->slots) &&
           append(&out->bytes, keys * sizeof(uint32_t), &out->slot_of) &&
           append(&out->bytes, eviction->state_bytes(shape), &out->policy);
}

uint64_t nst_expert_cache_bytes(const nst_expert_shape *shape,
                                const nst_expert_eviction *eviction) {
    parts at;
    return lay_out(shape, eviction, &at) ? at.bytes : 0;
}

static void empty(nst_expert_cache *cache, uint32_t slot) {
    nst_expert_slot *entry = &cache->slots[slot];
    if (entry->key != NST_NONE) {
        cache->slot_of[entry->key] = NST_NONE;
    }
    entry->key = NST_NONE;
    entry->state = NST_EXPERT_EMPTY;
    entry->ahead = 0;
    entry->awaited = 0;
}

int nst_expert_cache_init(nst_expert_cache *cache, const nst_expert_shape *shape,
                          const nst_expert_eviction *eviction, void *memory, size_t bytes) {
    parts at;
    if (cache == NULL || memory == NULL || (uintptr_t)memory % ALIGNMENT != 0 ||
        !lay_out(shape, eviction, &at)) {
        return NST_E_ARGUMENT;
    }
    if (bytes < at.bytes) {
        return NST_E_LIMIT;
    }
    uint8_t *base = memory;
    *cache = (nst_expert_cache){
        .shape = *shape,
        .eviction = eviction,
        .policy = base + at.policy,
        .slots = (nst_expert_slot *)(void *)(base + at.slots),
        .slot_of = (uint32_t *)(void *)(base + at.slot_of),
        .keys = shape->layers * shape->experts * shape->slices,
    };
    for (uint32_t slot = 0; slot < shape->slots; slot++) {
        cache->slots[slot] = (nst_expert_slot){.key = NST_NONE};
    }
    for (uint32_t key = 0; key < cache->keys; key++) {
        cache->slot_of[key] = NST_NONE;
    }
    eviction->start(cache->policy, shape);
    return NST_OK;
}

void nst_expert_cache_begin_request(nst_expert_cache *cache, uint32_t request) {
    if (cache->eviction->begin != NULL) {
        cache->eviction->begin(cache->policy, request % NST_EXPERT_REQUESTS);
    }
}

static bool visit_is_sound(const nst_expert_cache *cache, const nst_expert_visit *visit) {
    return visit != NULL && visit->layer < cache->shape.layers && visit->probabilities != NULL &&
           visit->count <= cache->shape.experts;
}

/* Await the slices of an expert, or no more. */
static void set_awaited(nst_expert_cache *cache, uint32_t layer, uint32_t expert, uint8_t awaited) {
    uint32_t key = nst_expert_key(&cache->shape, layer, expert, 0);
    for (uint32_t slice = 0; slice < cache->shape.slices; slice++) {
        if (cache->slot_of[key + slice] != NST_NONE) {
            cache->slots[cache->slot_of[key + slice]].awaited = awaited;
        }
    }
}

bool nst_expert_cache_route(nst_expert_cache *cache, const nst_expert_visit *visit) {
    if (!visit_is_sound(cache, visit) || (visit->chosen == NULL && visit->count > 0)) {
        return false;
    }
    for (uint32_t i = 0; i < visit->count; i++) {
        if (visit->chosen[i] >= cache->shape.experts) {
            return false;
        }
    }
    if (cache->shape.slots >= cache->keys) {
        return true; /* nothing is ever evicted */
    }
    /* What was prefetched for this layer was meant for this visit. */
    for (uint32_t expert = 0; expert < cache->shape.experts; expert++) {
        set_awaited(cache, visit->layer, expert, 0);
    }
    for (uint32_t i = 0; i < visit->count; i++) {
        set_awaited(cache, visit->layer, visit->chosen[i], 1);
    }
    if (cache->eviction->route != NULL) {
        nst_expert_visit bounded = *visit;
        bounded.request %= NST_EXPERT_REQUESTS;
        cache->eviction->route(cache->policy, &bounded);
    }
    return true;
}

bool nst_expert_cache_expect(nst_expert_cache *cache, const nst_expert_visit *visit) {
    if (!visit_is_sound(cache, visit)) {
        return false;
    }
    if (cache->eviction->expect != NULL && cache->shape.slots < cache->keys) {
        nst_expert_visit bounded = *visit;
        bounded.request %= NST_EXPERT_REQUESTS;
        cache->eviction->expect(cache->policy, &bounded);
    }
    return true;
}

uint32_t nst_expert_cache_peek(const nst_expert_cache *cache, uint32_t key) {
    return key < cache->keys ? cache->slot_of[key] : NST_NONE;
}

uint32_t nst_expert_cache_await(nst_expert_cache *cache, uint32_t key) {
    uint32_t slot = nst_expert_cache_peek(cache, key);
    if (slot != NST_NONE) {
        cache->slots[slot].awaited = 1;
    }
    return slot;
}

static void note_use(nst_expert_cache *cache, uint32_t key) {
    if (cache->eviction->use != NULL) {
        cache->eviction->use(cache->policy, key / cache->shape.slices);
    }
}

uint32_t nst_expert_cache_find(nst_expert_cache *cache, uint32_t key) {
    uint32_t slot = nst_expert_cache_peek(cache, key);
    if (slot == NST_NONE) {
        cache->counts.misses += key < cache->keys;
        return NST_NONE;
    }
    nst_expert_slot *entry = &cache->slots[slot];
    if (entry->state == NST_EXPERT_READY) {
        cache->counts.hits++;
    } else {
        cache->counts.late++;
    }
    cache->counts.prefetch_used += entry->ahead;
    entry->ahead = 0;
    entry->awaited = 0;
    note_use(cache, key);
    return slot;
}

/* Whether resident `one` goes before `other`: those that are awaited go last, of one
 * expert the higher slice goes first, of which the other is of no use without the lower. */
static bool goes_before(const nst_expert_cache *cache, const nst_expert_slot *one,
                        const nst_expert_slot *other) {
    uint32_t slices = cache->shape.slices;
    uint32_t a = one->key / slices;
    uint32_t b = other->key / slices;
    if (one->awaited != other->awaited) {
        return one->awaited < other->awaited;
    }
    if (a == b) {
        return one->key > other->key;
    }
    return cache->eviction->before(cache->policy, a, b);
}

/* The slot to take, NST_NONE where there is none. */
static uint32_t victim(const nst_expert_cache *cache, nst_expert_purpose purpose) {
    uint32_t best = NST_NONE;
    for (uint32_t slot = 0; slot < cache->shape.slots; slot++) {
        const nst_expert_slot *entry = &cache->slots[slot];
        if (entry->pins > 0 || entry->state == NST_EXPERT_LOADING) {
            continue;
        }
        if (entry->state == NST_EXPERT_EMPTY) {
            return slot;
        }
        if (purpose == NST_EXPERT_PREFETCH && entry->awaited) {
            continue;
        }
        if (best == NST_NONE || goes_before(cache, entry, &cache->slots[best])) {
            best = slot;
        }
    }
    return best;
}

int nst_expert_cache_claim(nst_expert_cache *cache, uint32_t key, nst_expert_purpose purpose,
                           uint32_t *slot) {
    if (slot == NULL || key >= cache->keys) {
        return NST_E_ARGUMENT;
    }
    *slot = cache->slot_of[key];
    if (*slot != NST_NONE) {
        return NST_E_STATE;
    }
    *slot = victim(cache, purpose);
    if (*slot == NST_NONE) {
        return NST_E_BUDGET;
    }
    nst_expert_slot *entry = &cache->slots[*slot];
    cache->counts.evictions += entry->state == NST_EXPERT_READY;
    empty(cache, *slot);
    uint8_t ahead = purpose == NST_EXPERT_PREFETCH;
    cache->counts.prefetched += ahead;
    *entry = (nst_expert_slot){
        .key = key, .state = NST_EXPERT_LOADING, .ahead = ahead, .awaited = ahead};
    cache->slot_of[key] = *slot;
    note_use(cache, key);
    return NST_OK;
}

bool nst_expert_cache_ready(nst_expert_cache *cache, uint32_t slot) {
    if (slot >= cache->shape.slots || cache->slots[slot].state != NST_EXPERT_LOADING) {
        return false;
    }
    cache->slots[slot].state = NST_EXPERT_READY;
    return true;
}

bool nst_expert_cache_drop(nst_expert_cache *cache, uint32_t slot) {
    if (slot >= cache->shape.slots || cache->slots[slot].state == NST_EXPERT_EMPTY) {
        return false;
    }
    empty(cache, slot);
    return true;
}

bool nst_expert_cache_pin(nst_expert_cache *cache, uint32_t slot) {
    if (slot >= cache->shape.slots || cache->slots[slot].state == NST_EXPERT_EMPTY ||
        cache->slots[slot].pins == UINT32_MAX) {
        return false;
    }
    cache->slots[slot].pins++;
    return true;
}

bool nst_expert_cache_unpin(nst_expert_cache *cache, uint32_t slot) {
    if (slot >= cache->shape.slots || cache->slots[slot].pins == 0) {
        return false;
    }
    cache->slots[slot].pins--;
    return true;
}

void nst_expert_cache_reset_counts(nst_expert_cache *cache) {
    cache->counts = (nst_expert_counts){.hits = 0};
}
