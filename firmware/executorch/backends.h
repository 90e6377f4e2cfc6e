// Which targets run in this process: ExecuTorch backends, found or loaded on demand.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace nestling {

// What this process can do with programs of a target.
struct TargetState {
    bool runs = false;
    std::string reason;  // why not; empty when it runs
    // Bytes of heap for each byte of a loaded program, as an estimate.
    uint32_t record_factor = 1;
    // Whether the backend may look at the program's bytes after a method was loaded.
    bool keeps_program = false;
};

// Looks for the backend of `target`, and loads its shared library if it has one of its own (once
// for the process; it stays loaded). Thread-safe.
TargetState look_up_target(std::string_view target);

}  // namespace nestling
