// Many threads at the experts of one bundle, for ThreadSanitizer:
//
//     expert_threads BUNDLE
//
// ExecuTorch cannot be instrumented, so calls are made as the operator makes them. Under several
// options, with room for a few experts, every answer must be that of one thread with room for all.
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "expert_call.h"
#include "hash.h"
#include "mapping.h"
#include "system_memory.h"

namespace {

using nestling::ExpertArguments;
using nestling::ExpertStore;

constexpr uint32_t kThreads = 4;
constexpr uint32_t kCalls = 24;
constexpr uint32_t kInputs = 6;

void check(int code, const nst_error &error) {
    if (code != NST_OK) {
        std::fprintf(stderr, "%s: %s\n", nst_code_name(code), error.message);
        std::exit(1);
    }
}

// A call of one layer with random input; `tokens` differ between inputs.
struct Input {
    Input(const ExpertStore &store, uint32_t number)
        : layer(number % store.layers()), tokens(number % 3 == 0 ? 5 : 1) {
        std::mt19937 random(number);
        std::normal_distribution<float> normal;
        hidden.resize(size_t{tokens} * store.layer(layer).dim);
        scores.resize(size_t{tokens} * store.layer(layer).experts);
        for (float &x : hidden) {
            x = normal(random);
        }
        for (float &x : scores) {
            x = 3 * normal(random);
        }
    }
    uint32_t layer;
    uint32_t tokens;
    std::vector<float> hidden;
    std::vector<float> scores;
};

int call(ExpertStore &store, const Input &input, uint32_t request, std::vector<float> *out,
         nst_error *error) {
    out->assign(input.hidden.size(), -1.0f);
    const std::unique_ptr<uint8_t, nestling::FreeDeleter> memory(static_cast<uint8_t *>(
        nestling::aligned_bytes(nestling::expert_call_bytes(store, input.layer, input.tokens))));
    const ExpertArguments arguments{.layer = input.layer,
                                    .request = request,
                                    .tokens = input.tokens,
                                    .hidden = input.hidden.data(),
                                    .scores = input.scores.data(),
                                    .out = out->data()};
    return nestling::call_experts(store, arguments, memory.get(), error);
}

// What all threads share.
struct Stage {
    ExpertStore store;
    std::vector<Input> inputs;
    std::vector<std::vector<float>> wanted;
};

void work(Stage *stage, uint32_t thread, bool exact, uint32_t *wrong) {
    std::vector<float> out;
    nst_error error{};
    nst_expert_stats stats;
    for (uint32_t i = 0; i < kCalls; ++i) {
        const uint32_t which = (i * (thread + 1) + thread) % kInputs;
        const uint32_t request = thread * kCalls + i;
        check(call(stage->store, stage->inputs[which], request, &out, &error), error);
        *wrong += exact && out != stage->wanted[which] ? 1 : 0;
        if (i % 5 == 0) {
            stage->store.stats(&stats);
        }
    }
}

void run_threads(Stage *stage, const nst_expert_options &options) {
    nst_error error{};
    check(stage->store.configure(options, &error), error);
    const bool exact = options.on_miss == NST_MISS_WAIT;
    std::vector<uint32_t> wrong(kThreads);
    std::vector<std::thread> threads;
    for (uint32_t i = 0; i < kThreads; ++i) {
        threads.emplace_back(work, stage, i, exact, &wrong[i]);
    }
    for (std::thread &thread : threads) {
        thread.join();
    }
    for (const uint32_t count : wrong) {
        if (count != 0) {
            std::fprintf(stderr, "%u answers differ\n", count);
            std::exit(1);
        }
    }
    nst_expert_stats stats;
    stage->store.stats(&stats);
    if (stats.calls != kThreads * kCalls || stats.failed_loads != 0) {
        std::fprintf(stderr, "the counters do not add up\n");
        std::exit(1);
    }
}

}  // namespace

int main(int argc, char **argv) {
    nst_error error{};
    nestling::Mapping mapping;
    nst_prefix prefix;
    nst_bundle bundle;
    if (argc != 2) {
        return 2;
    }
    check(mapping.open_path(argv[1], &error), error);
    check(nst_bundle_prefix(mapping.data(), mapping.size(), &prefix, &error), error);
    std::vector<uint32_t> index(nst_bundle_index_bytes(&prefix) / 4 + 1);
    const nst_hash_ops *hash = nestling::platform_hash();
    check(nst_bundle_open(&bundle, mapping.data(), mapping.size(), index.data(), index.size() * 4,
                          hash, &error),
          error);
    Stage stage;
    check(stage.store.open(bundle, mapping, *hash, &error), error);
    for (uint32_t i = 0; i < kInputs; ++i) {
        stage.inputs.emplace_back(stage.store, i);
        stage.wanted.emplace_back();
        check(call(stage.store, stage.inputs[i], i, &stage.wanted[i], &error), error);
    }
    nst_expert_view view;
    stage.store.view(&view);
    nst_expert_options options;
    ExpertStore::default_options(&options);
    for (const uint32_t slots : {2u, 5u, 9u}) {
        options.budget_bytes = uint64_t{slots} * view.slot_bytes;
        for (uint32_t i = 0; i < 6; ++i) {
            options.predictor = i % 3;
            options.order = i % 2 == 0 ? NST_ORDER_QUEUE : NST_ORDER_CACHE;
            options.eviction = (i + slots) % NST_EXPERT_POLICIES;
            options.on_miss = i < 4 ? uint32_t{NST_MISS_WAIT} : i - 3;
            options.storage_latency_us = i == 1 ? 20 : 0;
            run_threads(&stage, options);
        }
    }
    std::puts("ok");
    return 0;
}
