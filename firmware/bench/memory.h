// What this process holds in memory, as the kernel counts it.
#pragma once

#include <cstdint>
#include <string>

#include "json.h"

namespace nestling_bench {

// Bytes. `mapped_file` is the resident part of the mappings of one file: the weights that are
// read in place, which belong to nobody's heap.
struct Memory {
    int64_t rss = 0;
    int64_t pss = 0;
    int64_t anonymous = 0;
    int64_t mapped_file = 0;
};

// Reads /proc/self/smaps after giving free heap pages back, so that what an allocator happens to
// hoard is not counted for anybody. `file` may be empty.
Memory read_memory(const std::string &file);

void write_memory(JsonWriter &json, const Memory &memory);

}  // namespace nestling_bench
