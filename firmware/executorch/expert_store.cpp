#include "expert_store.h"

#include <algorithm>

#include "clock.h"
#include "status.h"

namespace nestling {

// ---- opening and configuring ----

void ExpertStore::default_options(nst_expert_options *out) {
    *out = {};
    out->struct_bytes = sizeof *out;
    out->eviction = NST_EXPERT_FORESIGHT;
    out->predictor = NST_PREDICT_ROUTER;
    out->on_miss = NST_MISS_WAIT;
    out->order = NST_ORDER_AUTO;
    out->bits = 8;
    out->second_choice_ratio = 0.5f;
}

int ExpertStore::open(const nst_bundle &bundle, const Mapping &mapping, const nst_hash_ops &hash,
                      nst_error *err) {
    if (int code = catalog_.open(bundle, mapping, hash, err); code != NST_OK || !any()) {
        return code;
    }
    source_.open(mapping, catalog_.section_offsets());
    nst_expert_options options;
    default_options(&options);
    return configure(options, err);
}

int ExpertStore::check_options(const nst_expert_options &options, uint32_t *slots,
                               nst_error *err) const {
    if (options.struct_bytes != sizeof options) {
        return failf(err, NST_E_ARGUMENT, {}, sizeof options, options.struct_bytes,
                     "options of another library version; use nst_expert_options_default");
    }
    if (options.eviction >= NST_EXPERT_POLICIES || options.predictor > NST_PREDICT_ROUTER ||
        options.on_miss > NST_MISS_ELSEWHERE || options.order > NST_ORDER_QUEUE ||
        (options.bits != 4 && options.bits != 8) ||
        !(options.second_choice_ratio >= 0 && options.second_choice_ratio <= 1) ||
        (options.on_miss == NST_MISS_ELSEWHERE) != (options.elsewhere != nullptr)) {
        return failf(err, NST_E_ARGUMENT, {}, 0, 0, "an option of experts is out of its range");
    }
    uint32_t least = 1;  // slots of one expert
    for (uint32_t i = 0; i < layers(); ++i) {
        least = layer(i).format == NST_EXPERT_NIBBLES && options.bits == 8 ? 2 : least;
    }
    const nst_expert_index &index = catalog_.index();
    const uint64_t all = uint64_t{index.experts} * index.slices;
    const uint64_t wanted =
        options.budget_bytes == 0 ? all : std::min(all, options.budget_bytes / index.slot_bytes);
    if (wanted < least) {
        return failf(err, NST_E_BUDGET, {.section = kExpertIndexSection, .stage = {}},
                     uint64_t{least} * index.slot_bytes, options.budget_bytes,
                     "the memory for experts does not hold one");
    }
    *slots = static_cast<uint32_t>(wanted);
    return NST_OK;
}

int ExpertStore::configure(const nst_expert_options &options, nst_error *err) {
    if (!any()) {
        return failf(err, NST_E_STATE, {}, 0, 0, "the bundle has no experts");
    }
    uint32_t count = 0;
    if (int code = check_options(options, &count, err); code != NST_OK) {
        return code;
    }
    // Everything new is there before anything old goes.
    ExpertSlots slots;
    if (int code = slots.open(catalog_.index(), options.eviction, count, err); code != NST_OK) {
        return code;
    }
    std::unique_ptr<uint64_t[]> memory;
    nst_expert_sequence sequence{};
    if (options.predictor == NST_PREDICT_SEQUENCE) {
        const uint64_t bytes = nst_expert_sequence_bytes(&slots.shape());
        memory = std::make_unique<uint64_t[]>(bytes / sizeof(uint64_t) + 1);
        if (nst_expert_sequence_init(&sequence, &slots.shape(), memory.get(), bytes) != NST_OK) {
            return failf(err, NST_E_LIMIT, {.section = kExpertIndexSection, .stage = {}},
                         NST_EXPERT_MAX_KEYS, 0, "too many experts to count what follows them");
        }
    }
    std::vector<Outlook> outlooks(layers());
    loader_.stop();
    options_ = options;
    slots_ = std::move(slots);
    sequence_memory_ = std::move(memory);
    sequence_ = sequence;
    last_request_ = NST_NONE;
    outlooks_ = std::move(outlooks);
    compute_ns_ = {};
    predict_ns_ = {};
    counted = {};
    source_.emulate(options.storage_bytes_per_s, options.storage_latency_us);
    loader_.start();
    return NST_OK;
}

// ---- calls ----

uint32_t ExpertStore::slices_of(uint32_t layer) const {
    return catalog_.layer(layer).format == NST_EXPERT_NIBBLES && options_.bits == 8 ? 2 : 1;
}

void ExpertStore::visit(const nst_expert_visit &visit, uint32_t tokens) {
    // Request numbers rise; one that comes late is of a request that has begun already.
    if (last_request_ == NST_NONE || static_cast<int32_t>(visit.request - last_request_) > 0) {
        last_request_ = visit.request;
        nst_expert_cache_begin_request(&slots_.cache(), visit.request);
        if (options_.predictor == NST_PREDICT_SEQUENCE) {
            nst_expert_sequence_begin_request(&sequence_, visit.request);
        }
    }
    // What was expected of this layer is known now.
    const uint32_t keys = slots_.shape().experts * slots_.shape().slices;
    loader_.forget(visit.layer * keys, keys);
    Outlook &outlook = outlooks_[visit.layer];
    if (outlook.asked_ns != 0) {
        outlook.lead_ns.note(static_cast<double>(now_ns() - outlook.asked_ns));
        outlook.missing.note(outlook.missing_now);
        outlook.asked_ns = 0;
    }
    outlook.missing_now = 0;
    nst_expert_cache_route(&slots_.cache(), &visit);
    if (options_.predictor == NST_PREDICT_SEQUENCE) {
        nst_expert_sequence_note(&sequence_, &visit);
    }
    recorder_.note(visit, tokens);
    ++counted.calls;
    counted.tokens += tokens;
}

bool ExpertStore::looks_ahead(uint32_t layer) {
    Outlook &outlook = outlooks_[layer];
    outlook.asked_ns = now_ns();
    if (!outlook.lead_ns.known()) {
        return true;
    }
    return loader_.gate().pays(outlook.missing.mean(), outlook.lead_ns.mean(), predict_ns_.mean());
}

uint32_t ExpertStore::predict_next(uint32_t request, float *chances) const {
    return nst_expert_sequence_predict(&sequence_, request, chances);
}

void ExpertStore::expect(const nst_expert_visit &visit, std::span<const uint32_t> experts) {
    nst_expert_cache_expect(&slots_.cache(), &visit);
    const uint32_t slices = slices_of(visit.layer);
    // Where high halves are an answer, those of all come first.
    const bool by_slice = options_.on_miss == NST_MISS_LOW_BITS;
    for (uint32_t first = 0; first < (by_slice ? slices : 1); ++first) {
        for (const uint32_t expert : experts) {
            for (uint32_t slice = first; slice < (by_slice ? first + 1 : slices); ++slice) {
                const uint32_t key = slots_.key_of({visit.layer, expert, slice});
                // Those that are there already are not to give way to the others.
                if (nst_expert_cache_await(&slots_.cache(), key) == NST_NONE) {
                    loader_.read_ahead(key);
                }
            }
        }
    }
}

void ExpertStore::read_behind(uint32_t layer, uint32_t expert) {
    for (uint32_t slice = 0; slice < slices_of(layer); ++slice) {
        const uint32_t key = slots_.key_of({layer, expert, slice});
        if (nst_expert_cache_peek(&slots_.cache(), key) == NST_NONE) {
            loader_.read_ahead(key);
        }
    }
}

bool ExpertStore::resident(uint32_t layer, uint32_t expert) const {
    const nst_expert_cache &cache = slots_.cache();
    for (uint32_t slice = 0; slice < slices_of(layer); ++slice) {
        const uint32_t slot = nst_expert_cache_peek(&cache, slots_.key_of({layer, expert, slice}));
        if (slot == NST_NONE || cache.slots[slot].state != NST_EXPERT_READY) {
            return false;
        }
    }
    return true;
}

ExpertState ExpertStore::find(uint32_t layer, uint32_t expert, bool low_bits, ExpertHold *out) {
    nst_expert_cache &cache = slots_.cache();
    const uint32_t slices = slices_of(layer);
    *out = {};
    bool all = true;
    for (uint32_t slice = 0; slice < slices; ++slice) {
        const uint32_t key = slots_.key_of({layer, expert, slice});
        const uint32_t there = nst_expert_cache_peek(&cache, key);
        outlooks_[layer].missing_now += there == NST_NONE || cache.slots[there].ahead != 0 ? 1 : 0;
        out->slots[slice] = nst_expert_cache_find(&cache, key);
        all = all && out->slots[slice] != NST_NONE;
    }
    if (low_bits && slices == 2 && out->slots[0] != NST_NONE &&
        (out->slots[1] == NST_NONE || cache.slots[out->slots[1]].state != NST_EXPERT_READY)) {
        out->slots[1] = NST_NONE;
        all = true;
    }
    if (!all) {
        *out = {};
        return ExpertState::kAbsent;
    }
    for (const uint32_t slot : out->slots) {
        nst_expert_cache_pin(&cache, slot);
    }
    return stand(out);
}

ExpertState ExpertStore::claim(uint32_t layer, uint32_t expert, bool low_bits, ExpertHold *out) {
    const uint32_t slices = low_bits ? 1 : slices_of(layer);
    *out = {};
    for (uint32_t slice = 0; slice < slices; ++slice) {
        uint32_t slot = NST_NONE;
        const int code = loader_.demand(slots_.key_of({layer, expert, slice}), &slot);
        if (code != NST_OK && code != NST_E_STATE) {
            // What was claimed of it comes all the same; it is not held, so nobody waits for others
            // who wait.
            release(out);
            return ExpertState::kAbsent;
        }
        out->slots[slice] = slot;
        nst_expert_cache_pin(&slots_.cache(), slot);
    }
    return stand(out);
}

ExpertState ExpertStore::stand(ExpertHold *hold) const {
    ExpertState state = ExpertState::kReady;
    for (const uint32_t slot : hold->slots) {
        if (slot == NST_NONE) {
            continue;
        }
        const uint8_t stands = slots_.cache().slots[slot].state;
        if (stands == NST_EXPERT_EMPTY) {
            return ExpertState::kFailed;
        }
        state = stands == NST_EXPERT_LOADING ? ExpertState::kLoading : state;
    }
    hold->high = slots_.bytes(hold->slots[0]);
    hold->low = slots_.bytes(hold->slots[1]);
    return state;
}

ExpertState ExpertStore::poll(ExpertHold *hold, nst_error *err) {
    const ExpertState state = stand(hold);
    if (state != ExpertState::kFailed) {
        return state;
    }
    nst_fail(err, NST_E_IO, kExpertSliceSections[0].data(), nullptr, 0, 0,
             "an expert could not be read");
    for (const uint32_t slot : hold->slots) {
        const nst_error *why = slot != NST_NONE ? loader_.failure(slot) : nullptr;
        if (why != nullptr && err != nullptr &&
            slots_.cache().slots[slot].state == NST_EXPERT_EMPTY) {
            *err = *why;
        }
    }
    release(hold);
    return state;
}

void ExpertStore::release(ExpertHold *hold) {
    for (const uint32_t slot : hold->slots) {
        nst_expert_cache_unpin(&slots_.cache(), slot);
    }
    *hold = {};
    loader_.note_release();
}

int ExpertStore::load_all(nst_error *err) {
    if (!any()) {
        return failf(err, NST_E_STATE, {}, 0, 0, "the bundle has no experts");
    }
    Lock held = lock();
    std::vector<ExpertHold> holds;
    int code = NST_OK;
    for (uint32_t layer = 0; layer < layers(); ++layer) {
        for (uint32_t expert = 0; expert < catalog_.layer(layer).experts; ++expert) {
            ExpertHold hold;
            if (!resident(layer, expert) &&
                slots_.shape().slots - slots_.occupied() >= slices_of(layer) &&
                claim(layer, expert, false, &hold) != ExpertState::kAbsent) {
                holds.push_back(hold);
            }
        }
    }
    for (ExpertHold &hold : holds) {
        ExpertState state;
        while ((state = poll(&hold, code == NST_OK ? err : nullptr)) == ExpertState::kLoading) {
            wait(held, 0);
        }
        if (state == ExpertState::kFailed && code == NST_OK) {
            code = err != nullptr ? err->code : NST_E_IO;
        }
        release(&hold);
    }
    leave(held);
    return code;
}

// ---- what it says of itself ----

void ExpertStore::note_compute(uint64_t ns) {
    counted.compute_ns += ns;
    compute_ns_.note(static_cast<double>(ns));
}

void ExpertStore::view(nst_expert_view *out) const {
    *out = {};
    if (any()) {
        const nst_expert_index &index = catalog_.index();
        *out = {index.layers,     index.experts,      index.slices,
                index.slot_bytes, index.most_experts, 0,
                catalog_.bytes()};
    }
}

void ExpertStore::stats(nst_expert_stats *out) {
    const Lock held = lock();
    const nst_expert_counts &counts = slots_.cache().counts;
    const ExpertLoader::Counts &read = loader_.counts();
    *out = counted;
    out->hits = counts.hits;
    out->late = counts.late;
    out->misses = counts.misses;
    out->evictions = counts.evictions;
    out->prefetched = counts.prefetched;
    out->prefetch_used = counts.prefetch_used;
    out->loads = read.loads;
    out->loaded_bytes = read.loaded_bytes;
    out->failed_loads = read.failed_loads;
    out->load_ns = read.load_ns;
    out->budget_bytes = options_.budget_bytes;
    out->slots = slots_.shape().slots;
    out->resident = slots_.occupied();
    out->resident_bytes = out->resident * slots_.slot_bytes();
    out->peak_bytes = uint64_t{slots_.peak()} * slots_.slot_bytes();
    out->storage_bytes_per_s = options_.storage_bytes_per_s;
    out->storage_latency_us = options_.storage_latency_us;
}

void ExpertStore::reset_stats() {
    const Lock held = lock();
    counted = {};
    loader_.reset_counts();
    if (any()) {
        slots_.reset_counts();
    }
}

}  // namespace nestling
