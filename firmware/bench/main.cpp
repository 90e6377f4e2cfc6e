// nestling-bench: ours against plain ExecuTorch, in one process. Prints raw samples as one JSON
// object; what they mean is decided in nestling.bench, which drives this program.
//
//   nestling-bench speed  --bundle B --fused tiny --fused full --plain tiny=t.pte --plain
//   full=f.pte nestling-bench memory --bundle B --fused full nestling-bench memory --plain
//   full=f.pte
#include <cstdio>
#include <exception>
#include <stdexcept>

#include "contest.h"

namespace {

void measure_speed(const nestling_bench::Options &options, nestling_bench::JsonWriter &json) {
    nestling_bench::Contest contest(options);
    nestling_bench::measure_steady(contest, json);
    nestling_bench::measure_switch(contest, json);
    nestling_bench::measure_alternating(contest, json);
    nestling_bench::measure_reload(contest, json);
}

}  // namespace

int main(int count, char **words) {
    try {
        const nestling_bench::Options options = nestling_bench::parse_options(count, words);
        // For both sides, and before the first load. libnestling does without the pool when it has
        // one thread; plain ExecuTorch never does, and takes every core unless told otherwise.
        nestling_bench::set_thread_count(options.threads);
        nestling_bench::JsonWriter json;
        json.open_object();
        json.key("threads").value(static_cast<int64_t>(options.threads));
        if (options.command == "speed") {
            measure_speed(options, json);
        } else if (options.command == "memory") {
            nestling_bench::measure_memory(options, json);
        } else {
            throw std::runtime_error("unknown command " + options.command);
        }
        json.close_object();
        std::puts(json.text().c_str());
        return 0;
    } catch (const std::exception &error) {
        std::fprintf(stderr, "nestling-bench: %s\n", error.what());
        return 1;
    }
}
