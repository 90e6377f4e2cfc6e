#include "contest.h"

#include <stdexcept>

namespace nestling_bench {

Contest::Contest(const Options &asked)
    : options(asked), nested(asked.bundle, asked.threads), names(asked.fused) {
    if (names.empty()) {
        throw std::runtime_error("no path to measure: name at least one with --fused");
    }
    nested.bind_inputs(options.inputs);
    for (const auto &[name, file] : options.plain) {
        plain[name] = std::make_unique<PlainModel>(file);
        plain[name]->bind_inputs(options.inputs);
    }
    // All resident from here on: nothing that is measured loads anything.
    for (const std::string &name : names) {
        paths.push_back(nested.path(name));
        for (const Grain grain : {Grain::kFused, Grain::kChain}) {
            nested.select(paths.back(), grain);
            nested.run();
        }
    }
}

}  // namespace nestling_bench
