// The command line of nestlingd.
#pragma once

#include <optional>
#include <string>

#include "device.h"

namespace nestling::linux_board {

struct Options {
    // Exactly one of the three is set.
    std::string serial;
    bool pseudo_terminal = false;
    std::string tcp;

    unsigned baud = 115200;
    DeviceOptions device;
};

// Nothing when help or version was asked for, and printed. std::invalid_argument with one sentence
// when the words make no sense; std::runtime_error when a key file cannot be used.
std::optional<Options> parse_options(int count, char **words);

}  // namespace nestling::linux_board
