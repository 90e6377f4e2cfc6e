// What a switch costs when everything is resident: the first run of a path after another one ran,
// against a later run of the same path.
//
// One turn: select another path at random (not timed), run it once; then select the path (timed:
// "select"), run it ("first"), run it once more without counting, run it again ("steady"). So both
// samples of a path have the same size, come from the same moments and differ in nothing but what
// ran before. `select` is kept apart, so that the reader can add it to the first run.
//
//   "switch": [{"path": P, "select": [ns, ...], "first": [...], "steady": [...]}, ...]
#include <algorithm>
#include <random>

#include "clock.h"
#include "contest.h"

namespace nestling_bench {

// Fewer say nothing about the slowest one in a hundred.
constexpr int kLeastSwitches = 200;

void measure_switch(Contest &contest, JsonWriter &json) {
    NestedModel &nested = contest.nested;
    const size_t count = contest.paths.size();
    json.key("switch").open_array();
    if (count > 1) {
        struct Samples {
            std::vector<int64_t> select, first, steady;
        };
        std::vector<Samples> samples(count);
        std::minstd_rand random(1);
        const double seconds = contest.options.seconds * static_cast<double>(count);
        const int64_t end = now_ns() + static_cast<int64_t>(seconds * 1e9);
        const int rounds = std::max(contest.options.rounds, kLeastSwitches);
        for (int round = 0; round < rounds || now_ns() < end; ++round) {
            for (size_t to = 0; to < count; ++to) {
                const size_t from = (to + 1 + random() % (count - 1)) % count;
                nested.select(contest.paths[from], Grain::kFused);
                nested.run();
                Samples &sample = samples[to];
                sample.select.push_back(
                    time_ns([&] { nested.select(contest.paths[to], Grain::kFused); }));
                sample.first.push_back(time_ns([&] { nested.run(); }));
                nested.run();
                sample.steady.push_back(time_ns([&] { nested.run(); }));
            }
        }
        for (size_t to = 0; to < count; ++to) {
            json.open_object();
            json.key("path").value(contest.names[to]);
            json.key("select").value(samples[to].select);
            json.key("first").value(samples[to].first);
            json.key("steady").value(samples[to].steady);
            json.close_object();
        }
    }
    json.close_array();
}

}  // namespace nestling_bench
