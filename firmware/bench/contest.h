// The contestants of one measurement, all loaded, in one process.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "json.h"
#include "nested.h"
#include "options.h"
#include "plain.h"

namespace nestling_bench {

// Everything that `speed` compares: the bundle, and a plain model a path where there is a file.
struct Contest {
    explicit Contest(const Options &options);

    const Options &options;
    NestedModel nested;
    std::vector<std::string> names;  // of the paths, in the order asked for
    std::vector<uint32_t> paths;     // their indices
    std::map<std::string, std::unique_ptr<PlainModel>> plain;
};

// One way of running one path. `prepare` is not part of a sample.
struct Contestant {
    std::string how;
    std::function<void()> prepare;
    std::function<void()> run;
};

// Each writes one member into the open object of `json`; the file of that name says what.
void measure_steady(Contest &contest, JsonWriter &json);
void measure_switch(Contest &contest, JsonWriter &json);
void measure_alternating(Contest &contest, JsonWriter &json);
void measure_reload(Contest &contest, JsonWriter &json);
void measure_memory(const Options &options, JsonWriter &json);

}  // namespace nestling_bench
