// Steady runs of each path: fused, chained, and the plain dense program of the same subnet.
//
// The three take turns in short bursts inside one loop, so that a busy moment of the machine hits
// all of them, and each burst begins with a run that is not counted, so that what a burst finds in
// the CPU's caches is its own. Every second round goes the other way about.
//
//   "steady": [{"path": P, "samples": {"fused": [[ns, ...] a round, ...], "chain": ..., "plain":
//   ...},
//               "largest_difference": {"chain": d, "plain": d}}, ...]
#include <algorithm>
#include <cmath>
#include <limits>

#include "clock.h"
#include "contest.h"

namespace nestling_bench {

namespace {

constexpr int64_t kBurstNs = 4'000'000;
constexpr int64_t kMostRunsInBurst = 24;

std::vector<Contestant> contestants(Contest &contest, size_t index) {
    NestedModel &nested = contest.nested;
    const uint32_t path = contest.paths[index];
    std::vector<Contestant> all = {
        {"fused", [&nested, path] { nested.select(path, Grain::kFused); },
         [&nested] { nested.run(); }},
        {"chain", [&nested, path] { nested.select(path, Grain::kChain); },
         [&nested] { nested.run(); }},
    };
    const auto found = contest.plain.find(contest.names[index]);
    if (found != contest.plain.end()) {
        PlainModel &plain = *found->second;
        all.push_back({"plain", [] {}, [&plain] { plain.run(); }});
    }
    return all;
}

double largest_difference(const std::vector<float> &left, const std::vector<float> &right) {
    if (left.size() != right.size()) {
        return std::numeric_limits<double>::infinity();
    }
    double largest = 0.0;
    for (size_t at = 0; at < left.size(); ++at) {
        largest = std::max(largest, static_cast<double>(std::fabs(left[at] - right[at])));
    }
    return largest;
}

// A guard against comparing two different networks: what both answer to the same input.
void write_differences(Contest &contest, size_t index, JsonWriter &json) {
    NestedModel &nested = contest.nested;
    nested.select(contest.paths[index], Grain::kFused);
    nested.run();
    const std::vector<float> fused = nested.output();
    nested.select(contest.paths[index], Grain::kChain);
    nested.run();
    json.key("largest_difference").open_object();
    json.key("chain").value(largest_difference(fused, nested.output()));
    const auto found = contest.plain.find(contest.names[index]);
    if (found != contest.plain.end()) {
        found->second->run();
        json.key("plain").value(largest_difference(fused, found->second->output()));
    }
    json.close_object();
}

std::vector<int64_t> burst(const Contestant &contestant) {
    contestant.prepare();
    const int64_t settling = time_ns(contestant.run);
    const int64_t count =
        std::clamp<int64_t>(kBurstNs / std::max<int64_t>(settling, 1), 2, kMostRunsInBurst);
    std::vector<int64_t> samples;
    for (int64_t at = 0; at < count; ++at) {
        samples.push_back(time_ns(contestant.run));
    }
    return samples;
}

}  // namespace

void measure_steady(Contest &contest, JsonWriter &json) {
    json.key("steady").open_array();
    for (size_t index = 0; index < contest.names.size(); ++index) {
        const std::vector<Contestant> all = contestants(contest, index);
        std::vector<std::vector<std::vector<int64_t>>> samples(all.size());
        const int64_t end = now_ns() + static_cast<int64_t>(contest.options.seconds * 1e9);
        for (int round = 0; round < contest.options.rounds || now_ns() < end; ++round) {
            for (size_t turn = 0; turn < all.size(); ++turn) {
                const size_t who = round % 2 == 0 ? turn : all.size() - 1 - turn;
                samples[who].push_back(burst(all[who]));
            }
        }
        json.open_object();
        json.key("path").value(contest.names[index]);
        json.key("samples").open_object();
        for (size_t who = 0; who < all.size(); ++who) {
            json.key(all[who].how).open_array();
            for (const auto &round : samples[who]) {
                json.value(round);
            }
            json.close_array();
        }
        json.close_object();
        write_differences(contest, index, json);
        json.close_object();
    }
    json.close_array();
}

}  // namespace nestling_bench
