// What a switch costs without nestling: unloading one plain .pte and loading another until it could
// run, the file in the page cache; and select() of the same path, interleaved.
//
//   "reload": {"plain": [ns, ...], "select": [ns, ...]}
#include "clock.h"
#include "contest.h"

namespace nestling_bench {

void measure_reload(Contest &contest, JsonWriter &json) {
    const size_t count = contest.paths.size();
    std::vector<int64_t> reloads;
    std::vector<int64_t> selects;
    if (count > 1 && contest.plain.size() == count) {
        std::map<std::string, std::string> files(contest.options.plain.begin(),
                                                 contest.options.plain.end());
        contest.plain.clear();  // one model in memory at a time is the point
        auto loaded = std::make_unique<PlainModel>(files.at(contest.names.back()));
        const int64_t end = now_ns() + static_cast<int64_t>(contest.options.seconds * 1e9);
        for (int round = 0; round < contest.options.rounds || now_ns() < end; ++round) {
            for (size_t to = 0; to < count; ++to) {
                const std::string &file = files.at(contest.names[to]);
                reloads.push_back(time_ns([&] {
                    loaded.reset();
                    loaded = std::make_unique<PlainModel>(file);
                }));
                contest.nested.select(contest.paths[(to + 1) % count], Grain::kFused);
                selects.push_back(
                    time_ns([&] { contest.nested.select(contest.paths[to], Grain::kFused); }));
            }
        }
    }
    json.key("reload").open_object();
    json.key("plain").value(reloads);
    json.key("select").value(selects);
    json.close_object();
}

}  // namespace nestling_bench
