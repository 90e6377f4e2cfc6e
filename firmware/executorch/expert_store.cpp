#include "expert_store.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "clock.h"
#include "status.h"

namespace nestling {
namespace {

constexpr size_t kMostAhead = 256;  // slices that wait to be read ahead
// How much later than asked for a thread wakes up, about: emulated storages end their reads on time.
constexpr uint64_t kLateWakeNs = 100'000;
constexpr std::string_view kIndexSection = "experts";
constexpr std::string_view kSliceSections[NST_MAX_EXPERT_SLICES] = {"experts.0", "experts.1"};

int find_section(const nst_bundle &bundle, std::string_view name, nst_section_info *out) {
    const uint32_t index = nst_bundle_find(&bundle, NST_SECTIONS, name.data(), name.size());
    return index == NST_NONE ? NST_E_NOT_FOUND : nst_bundle_section(&bundle, index, out);
}

}  // namespace

ExpertStore::~ExpertStore() {
    stop();
}

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
    if (nst_bundle_find(&bundle, NST_SECTIONS, kIndexSection.data(), kIndexSection.size()) ==
        NST_NONE) {
        return NST_OK;
    }
    if (int code = read_index(bundle, mapping, hash, err); code != NST_OK) {
        layers_.clear();
        return code;
    }
    nst_expert_options options;
    default_options(&options);
    return configure(options, err);
}

int ExpertStore::read_index(const nst_bundle &bundle, const Mapping &mapping,
                            const nst_hash_ops &hash, nst_error *err) {
    const Where where{.section = kIndexSection, .stage = {}};
    nst_section_info section;
    if (find_section(bundle, kIndexSection, &section) != NST_OK) {
        return failf(err, NST_E_CORRUPT, where, 0, 0, "the index of experts cannot be found");
    }
    const auto size = static_cast<size_t>(section.size);
    index_bytes_.reset(static_cast<uint8_t *>(aligned_bytes(size)));
    if (index_bytes_ == nullptr) {
        return failf(err, NST_E_NO_MEMORY, where, size, 0, "no memory for the index of experts");
    }
    if (int code = mapping.read(section.offset, index_bytes_.get(), size, err); code != NST_OK) {
        return code;
    }
    nst_hash_state state;
    uint8_t digest[NST_HASH_BYTES];
    if (hash.init(&state) != 0 || hash.update(&state, index_bytes_.get(), size) != 0 ||
        hash.final(&state, digest) != 0 ||
        std::memcmp(digest, section.sha256, sizeof digest) != 0) {
        return failf(err, NST_E_HASH, where, 0, 0, "its bytes are not those that were written");
    }
    uint64_t offsets[NST_MAX_EXPERT_SLICES] = {};
    uint64_t sizes[NST_MAX_EXPERT_SLICES] = {};
    for (uint32_t i = 0; i < NST_MAX_EXPERT_SLICES; ++i) {
        if (find_section(bundle, kSliceSections[i], &section) == NST_OK) {
            offsets[i] = section.offset;
            sizes[i] = section.size;
        }
    }
    if (int code = nst_expert_index_open(&index_, index_bytes_.get(), size, sizes, err);
        code != NST_OK) {
        return code;
    }
    layers_.resize(index_.layers);
    for (uint32_t i = 0; i < index_.layers; ++i) {
        nst_expert_index_layer(&index_, i, &layers_[i]);
        for (uint32_t slice = 0; slice < index_.slices; ++slice) {
            slice_bytes_ += nst_expert_layer_slice_bytes(&layers_[i], slice) * layers_[i].experts;
        }
    }
    source_.open(mapping, offsets);
    return NST_OK;
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
    for (const nst_expert_layer &layer : layers_) {
        least = layer.format == NST_EXPERT_NIBBLES && options.bits == 8 ? 2 : least;
    }
    const uint64_t all = uint64_t{index_.experts} * index_.slices;
    const uint64_t wanted =
        options.budget_bytes == 0 ? all : std::min(all, options.budget_bytes / index_.slot_bytes);
    if (wanted < least) {
        return failf(err, NST_E_BUDGET, {.section = kIndexSection, .stage = {}},
                     uint64_t{least} * index_.slot_bytes, options.budget_bytes,
                     "the memory for experts does not hold one");
    }
    *slots = static_cast<uint32_t>(wanted);
    return NST_OK;
}

int ExpertStore::configure(const nst_expert_options &options, nst_error *err) {
    if (!any()) {
        return failf(err, NST_E_STATE, {}, 0, 0, "the bundle has no experts");
    }
    nst_expert_shape shape{index_.layers, index_.most_experts, index_.slices, 0};
    if (int code = check_options(options, &shape.slots, err); code != NST_OK) {
        return code;
    }
    // Everything new is there before anything old goes.
    const nst_expert_eviction *eviction = nst_expert_eviction_at(options.eviction);
    const uint64_t cache_bytes = nst_expert_cache_bytes(&shape, eviction);
    const bool counts = options.predictor == NST_PREDICT_SEQUENCE;
    const uint64_t sequence_bytes = counts ? nst_expert_sequence_bytes(&shape) : 0;
    if (cache_bytes == 0 || (counts && sequence_bytes == 0)) {
        return failf(err, NST_E_LIMIT, {.section = kIndexSection, .stage = {}}, NST_EXPERT_MAX_KEYS,
                     0, "too many experts to keep account of");
    }
    auto cache_memory = std::make_unique<uint64_t[]>(cache_bytes / sizeof(uint64_t) + 1);
    auto sequence_memory = std::make_unique<uint64_t[]>(sequence_bytes / sizeof(uint64_t) + 1);
    auto slots = std::make_unique<SharedArena>();
    if (!slots->reserve(static_cast<size_t>(shape.slots) * index_.slot_bytes)) {
        return failf(err, NST_E_NO_MEMORY, {}, uint64_t{shape.slots} * index_.slot_bytes, 0,
                     "no address space for experts");
    }
    demands_.reserve(shape.slots);
    ahead_.reserve(kMostAhead);
    nst_expert_cache cache{};
    nst_expert_sequence sequence{};
    if (nst_expert_cache_init(&cache, &shape, eviction, cache_memory.get(), cache_bytes) !=
            NST_OK ||
        (counts && nst_expert_sequence_init(&sequence, &shape, sequence_memory.get(),
                                            sequence_bytes) != NST_OK)) {
        return failf(err, NST_E_LIMIT, {}, 0, 0, "too many experts to keep account of");
    }
    stop();
    options_ = options;
    slots_ = std::move(slots);
    cache_memory_ = std::move(cache_memory);
    sequence_memory_ = std::move(sequence_memory);
    cache_ = cache;
    sequence_ = sequence;
    last_request_ = NST_NONE;
    demands_.clear();
    ahead_.clear();
    counted = {};
    occupied_ = 0;
    blocked_ = false;
    stop_ = false;
    source_.emulate(options.storage_bytes_per_s, options.storage_latency_us);
    loader_ = std::thread([this] { work(); });
    return NST_OK;
}

void ExpertStore::stop() {
    if (!loader_.joinable()) {
        return;
    }
    {
        const std::lock_guard<std::mutex> held(mutex_);
        stop_ = true;
    }
    work_.notify_all();
    pace_.notify_all();
    loader_.join();
}

// ---- the loader ----

void ExpertStore::work() {
    Lock held(mutex_);
    while (true) {
        work_.wait(held,
                   [this] { return stop_ || !demands_.empty() || (!ahead_.empty() && !blocked_); });
        if (stop_) {
            return;
        }
        Demand demand;
        if (next(&demand)) {
            fill(held, demand);
        }
    }
}

bool ExpertStore::next(Demand *out) {
    if (!demands_.empty()) {
        *out = demands_.front();
        demands_.erase(demands_.begin());
        return true;
    }
    const Ahead wanted = ahead_.front();
    const int code = take_slot(wanted.key, NST_EXPERT_PREFETCH, &out->slot);
    if (code == NST_E_BUDGET) {
        blocked_ = true;
        return false;
    }
    ahead_.erase(ahead_.begin());
    out->asked_ns = std::max(wanted.asked_ns, unblocked_ns_);
    return code == NST_OK;
}

int ExpertStore::take_slot(uint32_t key, nst_expert_purpose purpose, uint32_t *slot) {
    const uint64_t evictions = cache_.counts.evictions;
    const int code = nst_expert_cache_claim(&cache_, key, purpose, slot);
    occupied_ += code == NST_OK && cache_.counts.evictions == evictions ? 1 : 0;
    return code;
}

void ExpertStore::fill(Lock &held, const Demand &demand) {
    uint32_t number = 0;
    const nst_expert_slice slice = slice_of(cache_.slots[demand.slot].key, &number);
    uint8_t *to = slots_->data() + static_cast<size_t>(demand.slot) * index_.slot_bytes;
    nst_error error{};
    held.unlock();
    const uint64_t begin = now_ns();
    const int code = source_.read(slice, number, to, &error);
    held.lock();
    if (!pace(held, source_.done_ns(demand.asked_ns, slice.size))) {
        return;
    }
    counted.load_ns += now_ns() - begin;
    if (code == NST_OK) {
        ++counted.loads;
        counted.loaded_bytes += slice.size;
        nst_expert_cache_ready(&cache_, demand.slot);
        counted.peak_bytes = std::max(counted.peak_bytes, uint64_t{occupied_} * index_.slot_bytes);
    } else {
        ++counted.failed_loads;
        fail(demand.slot, error);
        nst_expert_cache_drop(&cache_, demand.slot);
        --occupied_;
    }
    if (waiting_ != 0) {
        changed_.notify_all();
    }
}

// Until an emulated storage has taken its time. False: the store ends.
bool ExpertStore::pace(Lock &held, uint64_t done_ns) {
    if (done_ns <= now_ns()) {
        return true;
    }
    if (done_ns > now_ns() + kLateWakeNs) {
        const std::chrono::nanoseconds until(done_ns - kLateWakeNs);
        if (pace_.wait_until(held, std::chrono::steady_clock::time_point(until),
                             [this] { return stop_; })) {
            return false;
        }
    }
    held.unlock();
    while (now_ns() < done_ns) {
        std::this_thread::yield();
    }
    held.lock();
    return true;
}

void ExpertStore::fail(uint32_t slot, const nst_error &error) {
    const uint32_t key = cache_.slots[slot].key;
    const uint32_t number = key / cache_.shape.slices;
    Failure &failure = failures_[failed_++ % kFailures];
    failure.slot = slot;
    failf(&failure.error, error.code,
          {.section = kSliceSections[key % cache_.shape.slices], .stage = {}}, error.expected,
          error.actual, "expert %u of layer %u: %s", number % cache_.shape.experts,
          number / cache_.shape.experts, error.message);
}

uint32_t ExpertStore::key_of(uint32_t layer, uint32_t expert, uint32_t slice) const {
    return nst_expert_key(&cache_.shape, layer, expert, slice);
}

nst_expert_slice ExpertStore::slice_of(uint32_t key, uint32_t *number) const {
    const uint32_t expert = key / cache_.shape.slices;
    const nst_expert_layer &layer = layers_[expert / cache_.shape.experts];
    nst_expert_slice slice{};
    *number = key % cache_.shape.slices;
    nst_expert_index_slice(&index_, layer.first_expert + expert % cache_.shape.experts, *number,
                           &slice);
    return slice;
}

// ---- calls ----

uint32_t ExpertStore::slices_of(uint32_t layer) const {
    return layers_[layer].format == NST_EXPERT_NIBBLES && options_.bits == 8 ? 2 : 1;
}

void ExpertStore::visit(const nst_expert_visit &visit, uint32_t tokens) {
    // Request numbers rise; one that comes late is of a request that has begun already.
    if (last_request_ == NST_NONE || static_cast<int32_t>(visit.request - last_request_) > 0) {
        last_request_ = visit.request;
        nst_expert_cache_begin_request(&cache_, visit.request);
        if (options_.predictor == NST_PREDICT_SEQUENCE) {
            nst_expert_sequence_begin_request(&sequence_, visit.request);
        }
    }
    // What was expected of this layer is known now.
    const uint32_t keys = cache_.shape.experts * cache_.shape.slices;
    std::erase_if(ahead_, [&](const Ahead &ahead) { return ahead.key / keys == visit.layer; });
    nst_expert_cache_route(&cache_, &visit);
    if (options_.predictor == NST_PREDICT_SEQUENCE) {
        nst_expert_sequence_note(&sequence_, &visit);
    }
    recorder_.note(visit, tokens);
    ++counted.calls;
    counted.tokens += tokens;
    unblock();
}

uint32_t ExpertStore::predict_next(uint32_t request, float *chances) const {
    return nst_expert_sequence_predict(&sequence_, request, chances);
}

void ExpertStore::expect(const nst_expert_visit &visit, std::span<const uint32_t> experts) {
    nst_expert_cache_expect(&cache_, &visit);
    const uint32_t slices = slices_of(visit.layer);
    // Where high halves are an answer, those of all come first.
    const bool by_slice = options_.on_miss == NST_MISS_LOW_BITS;
    for (uint32_t first = 0; first < (by_slice ? slices : 1); ++first) {
        for (const uint32_t expert : experts) {
            enqueue_ahead(visit.layer, expert, first, by_slice ? 1 : slices);
        }
    }
}

void ExpertStore::read_behind(uint32_t layer, uint32_t expert) {
    enqueue_ahead(layer, expert, 0, slices_of(layer));
}

void ExpertStore::enqueue_ahead(uint32_t layer, uint32_t expert, uint32_t first_slice,
                                uint32_t slices) {
    for (uint32_t slice = first_slice; slice < first_slice + slices; ++slice) {
        const uint32_t key = key_of(layer, expert, slice);
        const auto same = [key](const Ahead &ahead) { return ahead.key == key; };
        if (nst_expert_cache_peek(&cache_, key) != NST_NONE || std::ranges::any_of(ahead_, same)) {
            continue;
        }
        if (ahead_.size() == kMostAhead) {
            ahead_.erase(ahead_.begin());
        }
        ahead_.push_back({key, now_ns()});
        unblock();
    }
}

bool ExpertStore::resident(uint32_t layer, uint32_t expert) const {
    for (uint32_t slice = 0; slice < slices_of(layer); ++slice) {
        const uint32_t slot = nst_expert_cache_peek(&cache_, key_of(layer, expert, slice));
        if (slot == NST_NONE || cache_.slots[slot].state != NST_EXPERT_READY) {
            return false;
        }
    }
    return true;
}

ExpertState ExpertStore::find(uint32_t layer, uint32_t expert, bool low_bits, ExpertHold *out) {
    const uint32_t slices = slices_of(layer);
    *out = {};
    bool all = true;
    for (uint32_t slice = 0; slice < slices; ++slice) {
        out->slots[slice] = nst_expert_cache_find(&cache_, key_of(layer, expert, slice));
        all = all && out->slots[slice] != NST_NONE;
    }
    if (low_bits && slices == 2 && out->slots[0] != NST_NONE &&
        (out->slots[1] == NST_NONE || cache_.slots[out->slots[1]].state != NST_EXPERT_READY)) {
        out->slots[1] = NST_NONE;
        all = true;
    }
    if (!all) {
        *out = {};
        return ExpertState::kAbsent;
    }
    for (const uint32_t slot : out->slots) {
        nst_expert_cache_pin(&cache_, slot);
    }
    return stand(out);
}

ExpertState ExpertStore::claim(uint32_t layer, uint32_t expert, bool low_bits, ExpertHold *out) {
    const uint32_t slices = low_bits ? 1 : slices_of(layer);
    *out = {};
    for (uint32_t slice = 0; slice < slices; ++slice) {
        const uint32_t key = key_of(layer, expert, slice);
        uint32_t slot = NST_NONE;
        const int code = take_slot(key, NST_EXPERT_DEMAND, &slot);
        if (code == NST_OK) {
            demands_.push_back({slot, now_ns()});
            work_.notify_one();
        } else if (code != NST_E_STATE) {
            // What was claimed of it comes all the same; it is not held, so nobody waits for others
            // who wait.
            release(out);
            return ExpertState::kAbsent;
        }
        out->slots[slice] = slot;
        nst_expert_cache_pin(&cache_, slot);
    }
    return stand(out);
}

ExpertState ExpertStore::stand(ExpertHold *hold) const {
    ExpertState state = ExpertState::kReady;
    for (const uint32_t slot : hold->slots) {
        if (slot == NST_NONE) {
            continue;
        }
        if (cache_.slots[slot].state == NST_EXPERT_EMPTY) {
            return ExpertState::kFailed;
        }
        if (cache_.slots[slot].state == NST_EXPERT_LOADING) {
            state = ExpertState::kLoading;
        }
    }
    const auto bytes = [this](uint32_t slot) -> const uint8_t * {
        return slot == NST_NONE ? nullptr
                                : slots_->data() + static_cast<size_t>(slot) * index_.slot_bytes;
    };
    hold->high = bytes(hold->slots[0]);
    hold->low = bytes(hold->slots[1]);
    return state;
}

ExpertState ExpertStore::poll(ExpertHold *hold, nst_error *err) {
    const ExpertState state = stand(hold);
    if (state != ExpertState::kFailed) {
        return state;
    }
    nst_fail(err, NST_E_IO, kSliceSections[0].data(), nullptr, 0, 0, "an expert could not be read");
    for (size_t back = 1; back <= std::min(failed_, kFailures); ++back) {
        const Failure &failure = failures_[(failed_ - back) % kFailures];
        if (std::ranges::find(hold->slots, failure.slot) != std::end(hold->slots)) {
            if (err != nullptr) {
                *err = failure.error;
            }
            break;
        }
    }
    release(hold);
    return state;
}

void ExpertStore::release(ExpertHold *hold) {
    for (const uint32_t slot : hold->slots) {
        nst_expert_cache_unpin(&cache_, slot);
    }
    *hold = {};
    unblock();
    if (waiting_ != 0) {
        changed_.notify_all();
    }
}

void ExpertStore::unblock() {
    if (blocked_) {
        blocked_ = false;
        unblocked_ns_ = now_ns();
    }
    if (!ahead_.empty()) {
        work_.notify_one();
    }
}

bool ExpertStore::wait(Lock &held, uint64_t deadline_ns) {
    // Who has nothing else to do reads too: sooner than another thread wakes up. Not with a deadline,
    // which a read does not know.
    if (deadline_ns == 0 && !demands_.empty()) {
        const Demand demand = demands_.front();
        demands_.erase(demands_.begin());
        fill(held, demand);
        return true;
    }
    ++waiting_;
    bool in_time = true;
    if (deadline_ns == 0) {
        changed_.wait(held);
    } else {
        const std::chrono::steady_clock::time_point until{std::chrono::nanoseconds(deadline_ns)};
        in_time = changed_.wait_until(held, until) == std::cv_status::no_timeout;
    }
    --waiting_;
    return in_time;
}

int ExpertStore::load_all(nst_error *err) {
    if (!any()) {
        return failf(err, NST_E_STATE, {}, 0, 0, "the bundle has no experts");
    }
    Lock held(mutex_);
    std::vector<ExpertHold> holds;
    int code = NST_OK;
    for (uint32_t layer = 0; layer < layers(); ++layer) {
        for (uint32_t expert = 0; expert < layers_[layer].experts; ++expert) {
            ExpertHold hold;
            if (!resident(layer, expert) && cache_.shape.slots - occupied_ >= slices_of(layer) &&
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
    return code;
}

// ---- what it says of itself ----

void ExpertStore::view(nst_expert_view *out) const {
    *out = {};
    if (any()) {
        *out = {index_.layers,     index_.experts,      index_.slices,
                index_.slot_bytes, index_.most_experts, 0,
                slice_bytes_};
    }
}

void ExpertStore::stats(nst_expert_stats *out) {
    const Lock held(mutex_);
    *out = counted;
    out->hits = cache_.counts.hits;
    out->late = cache_.counts.late;
    out->misses = cache_.counts.misses;
    out->evictions = cache_.counts.evictions;
    out->prefetched = cache_.counts.prefetched;
    out->prefetch_used = cache_.counts.prefetch_used;
    out->budget_bytes = options_.budget_bytes;
    out->slots = cache_.shape.slots;
    out->resident = occupied_;
    out->resident_bytes = out->resident * index_.slot_bytes;
    out->storage_bytes_per_s = options_.storage_bytes_per_s;
    out->storage_latency_us = options_.storage_latency_us;
}

void ExpertStore::reset_stats() {
    const Lock held(mutex_);
    counted = {};
    if (any()) {
        counted.peak_bytes = uint64_t{occupied_} * index_.slot_bytes;
        nst_expert_cache_reset_counts(&cache_);
    }
}

}  // namespace nestling
