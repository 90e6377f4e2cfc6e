// The bundle's tables as the engine wants them: decoded once, names ready to hand out.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/bundle.h"

namespace nestling {

struct Slot {
    std::string name;
    nst_dtype dtype;
    nst_role role;
    std::vector<int32_t> shape;
    uint64_t bytes;
    // Buffers that a session needs for it: 2 where a stage may read it while its next value is
    // written, 0 where it lies in another slot.
    uint32_t buffers;
    uint32_t append;     // the state slot whose next rows it is, or NST_NONE
    bool grows = false;  // other slots are rows of it
};

struct Constant {
    std::string_view key;
    const uint8_t *data;
    uint64_t size;
    uint32_t section;
    bool has_layout;  // ExecuTorch's own kernels use it, not (only) a delegate
    nst_dtype dtype;
    std::vector<int32_t> shape;
    std::vector<uint8_t> dim_order;
};

struct ProgramEntry {
    const uint8_t *data;
    uint64_t size;
    uint64_t unpacked_bytes;  // 0: stored as it is
    uint32_t section;
    std::string method;
};

struct Binding {
    std::string_view name;  // as the program asks for it
    uint32_t constant;
};

struct Stage {
    std::string name;
    uint32_t program;
    uint32_t target;  // of its program, in Tables::targets
    uint32_t first;
    uint32_t last;
    uint32_t level;
    uint32_t bits;
    uint64_t macs;
    uint64_t arena_bytes;
    uint64_t weight_bytes;  // distinct constants
    std::vector<uint32_t> inputs;
    std::vector<uint32_t> outputs;
    std::vector<Binding> bindings;  // sorted by name
    // The first stage of the same program and weights that runs on these slots as well: itself, or
    // another visit of what both are. It is loaded for all of them.
    uint32_t loaded_as;
};

struct Path {
    std::string name;
    std::vector<uint32_t> chain;
    uint32_t fused;  // NST_NONE: none
    uint64_t parameters;
    uint64_t macs;
    uint64_t weight_bytes;
};

struct Section {
    std::string name;
    uint64_t offset;
    uint64_t size;
};

struct Tables {
    std::vector<Section> sections;
    std::vector<Slot> slots;
    std::vector<Constant> constants;
    std::vector<ProgramEntry> programs;
    std::vector<std::string> targets;  // the bundle's own first
    std::vector<Stage> stages;
    // [stage][target] the stage that does the same on that target, or NST_NONE; empty where the
    // bundle has one target.
    std::vector<uint32_t> stand_ins;
    std::vector<Path> paths;
    uint64_t arena_bytes = 0;  // the hungriest stage
    size_t max_arguments = 0;  // inputs plus outputs of the widest stage

    // Decodes everything and checks what only the engine cares about: one name that delegates look
    // up in XNNPACK's weights cache means one constant throughout the bundle (two would crash
    // there).
    int read(const nst_bundle &bundle, nst_error *err);
};

}  // namespace nestling
