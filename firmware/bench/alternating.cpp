// Every call takes another path, in one random order for both sides: the bundle (select and run)
// against plain ExecuTorch with all files loaded (run the other module). They take turns in laps of
// some calls; the first calls of a lap, one a path, are not counted, since they find the other
// side's weights in the caches.
//
//   "alternating": {"nested": [mean ns a call of a lap, ...], "plain": [...]}
#include <random>

#include "clock.h"
#include "contest.h"

namespace nestling_bench {

namespace {

// The order of one lap: uniform over the paths, never the same one twice in a row.
std::vector<size_t> draw_order(size_t count, size_t calls, std::minstd_rand &random) {
    std::vector<size_t> order;
    size_t last = 0;
    for (size_t call = 0; call < calls; ++call) {
        last = (last + 1 + random() % (count - 1)) % count;
        order.push_back(last);
    }
    return order;
}

template <typename Call>
int64_t lap(const std::vector<size_t> &order, size_t uncounted, Call &&call) {
    for (size_t at = 0; at < uncounted; ++at) {
        call(order[at]);
    }
    const int64_t start = now_ns();
    for (size_t at = uncounted; at < order.size(); ++at) {
        call(order[at]);
    }
    return (now_ns() - start) / static_cast<int64_t>(order.size() - uncounted);
}

}  // namespace

void measure_alternating(Contest &contest, JsonWriter &json) {
    const size_t count = contest.paths.size();
    json.key("alternating").open_object();
    std::vector<int64_t> ours;
    std::vector<int64_t> theirs;
    if (count > 1 && contest.plain.size() == count) {
        std::vector<PlainModel *> plain;
        for (const std::string &name : contest.names) {
            plain.push_back(contest.plain.at(name).get());
        }
        NestedModel &nested = contest.nested;
        std::minstd_rand random(1);
        const int64_t end = now_ns() + static_cast<int64_t>(contest.options.seconds * 2e9);
        for (int round = 0; round < contest.options.rounds || now_ns() < end; ++round) {
            const std::vector<size_t> order = draw_order(count, 5 * count, random);
            const auto run_ours = [&](size_t path) {
                nested.select(contest.paths[path], Grain::kFused);
                nested.run();
            };
            const auto run_theirs = [&](size_t path) { plain[path]->run(); };
            if (round % 2 == 0) {
                ours.push_back(lap(order, count, run_ours));
                theirs.push_back(lap(order, count, run_theirs));
            } else {
                theirs.push_back(lap(order, count, run_theirs));
                ours.push_back(lap(order, count, run_ours));
            }
        }
    }
    json.key("nested").value(ours);
    json.key("plain").value(theirs);
    json.close_object();
}

}  // namespace nestling_bench
