// One memory question, in a process that does nothing else: what loading the named paths of a
// bundle, or some plain files, adds to a process that has the runtime in it already. Everything is
// run once, so that lazily allocated buffers are there. The thread pool is in "before" on both
// sides.
//
//   "before": {...}, "after": {...}, "resident_bytes": what the engine says, or -1
#include "contest.h"
#include "memory.h"

namespace nestling_bench {

namespace {

// A path that is selected is loaded; one that was selected before stays, as there is no budget.
void load_nested(const Options &options, NestedModel &nested) {
    for (const std::string &name : options.fused) {
        nested.select(nested.path(name), Grain::kFused);
        nested.run();
    }
    for (const std::string &name : options.chain) {
        nested.select(nested.path(name), Grain::kChain);
        nested.run();
    }
}

}  // namespace

void measure_memory(const Options &options, JsonWriter &json) {
    json.key("before");
    write_memory(json, read_memory(options.bundle));
    if (options.bundle.empty()) {
        std::vector<std::unique_ptr<PlainModel>> plain;
        for (const auto &[name, file] : options.plain) {
            plain.push_back(std::make_unique<PlainModel>(file));
            plain.back()->bind_inputs(options.inputs);
        }
        json.key("after");
        write_memory(json, read_memory(""));
        json.key("resident_bytes").value(int64_t{-1});
        return;
    }
    NestedModel nested(options.bundle, options.threads);
    nested.bind_inputs(options.inputs);
    load_nested(options, nested);
    json.key("after");
    write_memory(json, read_memory(options.bundle));
    json.key("resident_bytes").value(nested.resident_bytes());
}

}  // namespace nestling_bench
