#include "expert_call.h"

#include <algorithm>
#include <cstring>

#include "clock.h"
#include "core/expert_kernel.h"
#include "core/expert_routing.h"
#include "status.h"

namespace nestling {
namespace {

// An expert that some of the tokens need.
struct Need {
    uint32_t expert;
    bool elsewhere;  // it is not read, but computed by the caller
    bool done;
    ExpertState state;
    ExpertHold hold;
};

// The arrays of a call, taken from one piece of memory; with none, only its size is counted.
struct Room {
    Room(const ExpertStore &store, uint32_t number, uint32_t tokens, void *memory)
        : memory_(static_cast<uint8_t *>(memory)) {
        const nst_expert_layer &layer = store.layer(number);
        nst_expert_view view;
        store.view(&view);
        const size_t most = view.most_experts;
        const size_t pairs = size_t{tokens} * layer.top_k;
        const size_t groups = layer.group != 0 ? layer.dim / layer.group : 0;
        const bool elsewhere = store.options().on_miss == NST_MISS_ELSEWHERE;
        take(&probabilities, size_t{tokens} * layer.experts);
        take(&mean, most);
        take(&chosen, pairs);
        take(&weights, pairs);
        take(&list, most);
        take(&first, most + 1);
        take(&rows, pairs);
        take(&places, pairs);
        take(&results, pairs * layer.dim);
        take(&q, layer.group != 0 ? size_t{tokens} * layer.dim : 0);
        take(&scales, tokens * groups);
        take(&kernel, nst_expert_scratch_bytes(&layer, tokens));
        take(&needs, layer.experts);
        take(&given, elsewhere ? size_t{tokens} * layer.dim : 0);
        if (layer.predictor != nullptr && store.options().predictor == NST_PREDICT_ROUTER) {
            const size_t predicted = store.layer(layer.predicted_layer).experts;
            take(&predicted_scores, tokens * predicted);
            take(&predicted_chances, tokens * predicted);
        }
    }

    template <typename T>
    void take(T **array, size_t count) {
        constexpr size_t kAlignment = 16;
        used = (used + kAlignment - 1) / kAlignment * kAlignment;
        *array = memory_ != nullptr ? reinterpret_cast<T *>(memory_ + used) : nullptr;
        used += count * sizeof(T);
    }

    size_t used = 0;
    float *probabilities;  // [tokens][experts]
    float *mean;           // [most experts]
    uint32_t *chosen;      // [tokens][top_k]
    float *weights;        // the same
    uint32_t *list;        // [most experts] experts, each once
    uint32_t *first;       // of nst_expert_gather, as are:
    uint32_t *rows;
    uint32_t *places;
    float
        *results;  // [tokens * top_k][dim] of each row, so that they are added in one order always
    int16_t *q;    // the input, quantised
    float *scales;
    uint8_t *kernel;
    Need *needs;
    float *given;  // rows for who computes elsewhere
    float *predicted_scores = nullptr;
    float *predicted_chances = nullptr;

  private:
    uint8_t *memory_;
};

class Call {
  public:
    Call(ExpertStore &store, const ExpertArguments &arguments, void *memory, nst_error *err)
        : store_(store),
          options_(store.options()),
          arguments_(arguments),
          layer_(store.layer(arguments.layer)),
          room_(store, arguments.layer, arguments.tokens, memory),
          err_(err) {}

    int run();

  private:
    using Lock = ExpertStore::Lock;

    void route();
    void predict(Lock &lock);
    void expect(uint32_t layer, const float *mean, uint32_t count);
    int serve(Lock &lock, uint32_t begin, uint32_t tokens);
    void choose_seconds(uint32_t begin, uint32_t tokens);
    void list_needs(uint32_t begin, uint32_t tokens);
    void look_up(Need *need);
    int get_ready(Need **ready);
    void use(const Need &need);
    int compute(Lock &lock, Need *need);
    int compute_elsewhere(const Need &need);
    int fail(int code);
    int fail_late();

    ExpertStore &store_;
    const nst_expert_options &options_;
    const ExpertArguments &arguments_;
    const nst_expert_layer &layer_;
    Room room_;
    nst_error *err_;
    uint32_t needs_ = 0;
};

int Call::run() {
    const uint32_t tokens = arguments_.tokens;
    route();
    if (layer_.group != 0) {
        nst_expert_quantise(arguments_.hidden, tokens, layer_.dim, layer_.group, room_.q,
                            room_.scales);
    }
    const bool queue =
        options_.order == NST_ORDER_QUEUE ||
        (options_.order == NST_ORDER_AUTO && uint64_t{tokens} * layer_.top_k >= layer_.experts);
    Lock lock = store_.lock();
    uint32_t count = 0;
    std::memset(room_.first, 0, layer_.experts * sizeof(uint32_t));
    for (size_t i = 0; i < size_t{tokens} * layer_.top_k; ++i) {
        room_.first[room_.chosen[i]] = 1;
    }
    for (uint32_t expert = 0; expert < layer_.experts; ++expert) {
        if (room_.first[expert] != 0) {
            room_.list[count++] = expert;
        }
    }
    store_.visit({arguments_.request, arguments_.layer, room_.mean, room_.list, count}, tokens);
    predict(lock);
    int code = NST_OK;
    if (queue) {
        ++store_.counted.queue_calls;
        code = serve(lock, 0, tokens);
    }
    for (uint32_t token = 0; !queue && code == NST_OK && token < tokens; ++token) {
        code = serve(lock, token, 1);
    }
    store_.leave(lock);
    return code;
}

// Probabilities, their mean, and the chosen experts of each token.
void Call::route() {
    nst_expert_view view;
    store_.view(&view);
    const uint32_t experts = layer_.experts;
    nst_expert_softmax(arguments_.scores, arguments_.tokens, experts, room_.probabilities);
    nst_expert_choose(&layer_, arguments_.scores, room_.probabilities, arguments_.tokens,
                      room_.chosen, room_.weights);
    std::fill_n(room_.mean, view.most_experts, 0.0f);
    for (size_t i = 0; i < size_t{arguments_.tokens} * experts; ++i) {
        room_.mean[i % experts] += room_.probabilities[i];
    }
    for (uint32_t expert = 0; expert < experts; ++expert) {
        room_.mean[expert] /= static_cast<float>(arguments_.tokens);
    }
}

// What comes next is told before this layer's experts are computed, so that it is read meanwhile.
void Call::predict(Lock &lock) {
    if (options_.predictor == NST_PREDICT_SEQUENCE) {
        const uint32_t next = store_.predict_next(arguments_.request, room_.mean);
        if (next != NST_NONE && store_.looks_ahead(next)) {
            expect(next, room_.mean, store_.layer(next).top_k);
        }
        return;
    }
    if (options_.predictor != NST_PREDICT_ROUTER || layer_.predictor == nullptr ||
        !store_.looks_ahead(layer_.predicted_layer)) {
        return;
    }
    const uint64_t begin_ns = now_ns();
    const nst_expert_layer &other = store_.layer(layer_.predicted_layer);
    const uint32_t tokens = arguments_.tokens;
    lock.unlock();
    nst_expert_predict(&layer_, other.experts, arguments_.hidden, tokens, room_.predicted_scores);
    nst_expert_softmax(room_.predicted_scores, tokens, other.experts, room_.predicted_chances);
    // An expert counts where some token is likely to go there: by the largest chance among those for
    // which it would be chosen.
    nst_expert_view view;
    store_.view(&view);
    std::fill_n(room_.mean, view.most_experts, 0.0f);
    uint32_t likely = 0;
    for (uint32_t token = 0; token < tokens; ++token) {
        const float *chances = room_.predicted_chances + size_t{token} * other.experts;
        nst_expert_top(chances, other.experts, other.top_k, room_.list);
        for (uint32_t i = 0; i < other.top_k; ++i) {
            float &chance = room_.mean[room_.list[i]];
            likely += chance == 0.0f ? 1 : 0;
            chance = std::max(chance, chances[room_.list[i]]);
        }
    }
    if (tokens == 1) {
        std::copy_n(room_.predicted_chances, other.experts, room_.mean);
    }
    lock.lock();
    expect(layer_.predicted_layer, room_.mean, likely);
    store_.note_predict(now_ns() - begin_ns);
}

void Call::expect(uint32_t layer, const float *chances, uint32_t count) {
    const uint32_t experts = store_.layer(layer).experts;
    nst_expert_top(chances, experts, std::min(count, experts), room_.list);
    uint32_t likely = 0;
    while (likely < std::min(count, experts) && chances[room_.list[likely]] > 0.0f) {
        ++likely;
    }
    store_.expect({arguments_.request, layer, chances, room_.list, likely}, {room_.list, likely});
}

// ---- tokens begin .. begin + tokens ----

int Call::serve(Lock &lock, uint32_t begin, uint32_t tokens) {
    if (options_.on_miss == NST_MISS_SECOND_CHOICE) {
        choose_seconds(begin, tokens);
    }
    list_needs(begin, tokens);
    for (uint32_t i = 0; i < needs_; ++i) {
        look_up(&room_.needs[i]);
    }
    uint64_t deadline_ns = 0;
    for (uint32_t done = 0; done < needs_;) {
        Need *ready = nullptr;
        if (int code = get_ready(&ready); code != NST_OK) {
            return fail(code);
        }
        if (ready != nullptr) {
            if (int code = compute(lock, ready); code != NST_OK) {
                return fail(code);
            }
            ++done;
            deadline_ns = 0;
            continue;
        }
        const uint64_t begin_ns = now_ns();
        if (options_.timeout_us != 0 && deadline_ns == 0) {
            deadline_ns = begin_ns + options_.timeout_us * 1000;
        }
        const bool in_time = store_.wait(lock, deadline_ns);
        store_.counted.wait_ns += now_ns() - begin_ns;
        if (!in_time) {
            return fail_late();
        }
    }
    lock.unlock();
    nst_expert_combine(room_.weights + size_t{begin} * layer_.top_k, room_.places, tokens,
                       layer_.top_k, layer_.dim, room_.results,
                       arguments_.out + size_t{begin} * layer_.dim);
    lock.lock();
    return NST_OK;
}

// Replaces experts that are not resident by the best resident one that is good enough.
void Call::choose_seconds(uint32_t begin, uint32_t tokens) {
    for (uint32_t token = begin; token < begin + tokens; ++token) {
        const float *chances = room_.probabilities + size_t{token} * layer_.experts;
        uint32_t *chosen = room_.chosen + size_t{token} * layer_.top_k;
        float *weights = room_.weights + size_t{token} * layer_.top_k;
        const std::span<uint32_t> all(chosen, layer_.top_k);
        bool changed = false;
        for (uint32_t &expert : all) {
            if (store_.resident(arguments_.layer, expert)) {
                continue;
            }
            uint32_t best = NST_NONE;
            for (uint32_t other = 0; other < layer_.experts; ++other) {
                if (chances[other] >= options_.second_choice_ratio * chances[expert] &&
                    (best == NST_NONE || chances[other] > chances[best]) &&
                    std::ranges::find(all, other) == all.end() &&
                    store_.resident(arguments_.layer, other)) {
                    best = other;
                }
            }
            if (best != NST_NONE) {
                store_.read_behind(arguments_.layer, expert);
                ++store_.counted.second_choices;
                expert = best;
                changed = true;
            }
        }
        float total = 0.0f;
        for (uint32_t i = 0; changed && i < layer_.top_k; ++i) {
            weights[i] = chances[chosen[i]];
            total += weights[i];
        }
        for (uint32_t i = 0;
             changed && (layer_.flags & NST_EXPERT_RENORMALISE) != 0 && i < layer_.top_k; ++i) {
            weights[i] /= total;
        }
    }
}

void Call::list_needs(uint32_t begin, uint32_t tokens) {
    const size_t pairs = size_t{tokens} * layer_.top_k;
    nst_expert_gather(room_.chosen + size_t{begin} * layer_.top_k, tokens, layer_.top_k,
                      layer_.experts, room_.first, room_.rows, room_.places);
    for (size_t i = 0; i < pairs; ++i) {
        room_.rows[i] += begin;
    }
    needs_ = 0;
    for (uint32_t expert = 0; expert < layer_.experts; ++expert) {
        if (room_.first[expert + 1] > room_.first[expert]) {
            room_.needs[needs_++] = {expert, false, false, ExpertState::kAbsent, {}};
        }
    }
}

void Call::look_up(Need *need) {
    need->state = store_.find(arguments_.layer, need->expert, options_.on_miss == NST_MISS_LOW_BITS,
                              &need->hold);
    if (need->state == ExpertState::kAbsent && options_.on_miss == NST_MISS_ELSEWHERE) {
        need->elsewhere = true;
        ++store_.counted.elsewhere;
        store_.read_behind(arguments_.layer, need->expert);
    }
}

// Has as much read as there are slots for, and finds an expert that can be computed now: one that is
// resident, then one that has come, then one that others compute.
int Call::get_ready(Need **ready) {
    Need *elsewhere = nullptr;
    bool room = true;
    for (uint32_t i = 0; i < needs_; ++i) {
        Need &need = room_.needs[i];
        if (need.done) {
            continue;
        }
        if (need.elsewhere) {
            elsewhere = elsewhere != nullptr ? elsewhere : &need;
            continue;
        }
        if (need.state == ExpertState::kAbsent && room) {
            need.state = store_.claim(arguments_.layer, need.expert,
                                      options_.on_miss == NST_MISS_LOW_BITS, &need.hold);
            room = need.state != ExpertState::kAbsent;
        } else if (need.state == ExpertState::kLoading) {
            need.state = store_.poll(&need.hold, err_);
        }
        if (need.state == ExpertState::kFailed) {
            return err_ != nullptr ? err_->code : NST_E_IO;
        }
        if (need.state == ExpertState::kReady && *ready == nullptr) {
            *ready = &need;
        }
    }
    *ready = *ready != nullptr ? *ready : elsewhere;
    return NST_OK;
}

int Call::compute(Lock &lock, Need *need) {
    const bool low_bits =
        !need->elsewhere && need->hold.low == nullptr && store_.slices_of(arguments_.layer) == 2;
    if (low_bits) {
        ++store_.counted.low_bits;
        store_.read_behind(arguments_.layer, need->expert);
    }
    store_.unlock_to_compute(lock);
    const uint64_t begin_ns = now_ns();
    int code = NST_OK;
    if (need->elsewhere) {
        code = compute_elsewhere(*need);
    } else {
        use(*need);
    }
    const uint64_t taken_ns = now_ns() - begin_ns;
    lock.lock();
    store_.note_compute(taken_ns);
    need->done = true;
    store_.release(&need->hold);
    return code;
}

void Call::use(const Need &need) {
    const uint32_t first = room_.first[need.expert];
    const nst_expert_input input{arguments_.hidden, room_.q, room_.scales};
    nst_expert_run(&layer_, need.hold.high, need.hold.low, &input, room_.rows + first,
                   room_.first[need.expert + 1] - first, room_.kernel,
                   room_.results + size_t{first} * layer_.dim);
}

int Call::compute_elsewhere(const Need &need) {
    const size_t dim = layer_.dim;
    const uint32_t first = room_.first[need.expert];
    const uint32_t count = room_.first[need.expert + 1] - first;
    for (uint32_t i = 0; i < count; ++i) {
        std::copy_n(arguments_.hidden + room_.rows[first + i] * dim, dim, room_.given + i * dim);
    }
    const int result = options_.elsewhere(options_.elsewhere_user, arguments_.layer, need.expert,
                                          room_.given, count, room_.results + first * dim);
    if (result != 0) {
        return failf(err_, NST_E_ENGINE, {}, 0, static_cast<uint64_t>(int64_t{result}),
                     "expert %u of layer %u could not be computed elsewhere", need.expert,
                     arguments_.layer);
    }
    return NST_OK;
}

// Lets go of everything that is held.
int Call::fail(int code) {
    for (uint32_t i = 0; i < needs_; ++i) {
        store_.release(&room_.needs[i].hold);
    }
    return code;
}

int Call::fail_late() {
    const auto missing = std::find_if(room_.needs, room_.needs + needs_,
                                      [](const Need &need) { return !need.done; });
    ++store_.counted.timeouts;
    return fail(failf(err_, NST_E_IO, {}, options_.timeout_us, 0,
                      "expert %u of layer %u was not read in time; allow a longer timeout_us, or "
                      "answers by on_miss",
                      missing->expert, arguments_.layer));
}

}  // namespace

size_t expert_call_bytes(const ExpertStore &store, uint32_t layer, uint32_t tokens) {
    return Room(store, layer, tokens, nullptr).used;
}

int call_experts(ExpertStore &store, const ExpertArguments &arguments, void *memory,
                 nst_error *err) {
    nst_error unseen;
    return Call(store, arguments, memory, err != nullptr ? err : &unseen).run();
}

}  // namespace nestling
