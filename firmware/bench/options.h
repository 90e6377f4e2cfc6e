// What was asked for on the command line.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace nestling_bench {

struct Options {
    std::string command;
    std::string bundle;
    unsigned threads = 1;
    double seconds = 2.0;  // spent on each measurement, at least
    int rounds = 5;        // interleaved passes over the contestants, at least
    // Path names; with `memory`, what is loaded.
    std::vector<std::string> fused;
    std::vector<std::string> chain;
    // Pairs of path name and plain .pte file of the same subnet.
    std::vector<std::pair<std::string, std::string>> plain;
    std::vector<std::string> inputs;  // raw bytes of inputs 0, 1, ...
};

// Throws std::runtime_error with the sentence to show.
Options parse_options(int count, char **words);

}  // namespace nestling_bench
