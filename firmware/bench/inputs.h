// Input bytes that every contestant gets alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace nestling_bench {

enum class Kind { kFloat32, kInt64, kInt32, kOther };

// Kernels may read that far behind an input's last byte.
inline constexpr size_t kPaddingBytes = 64;

// The raw bytes of `file`, padded; throws when they are not `size`. With no file, values in [-1, 1)
// for floats and 0 or 1 for integers, a function of `index` and `size` alone.
std::vector<uint8_t> input_bytes(const std::string &file, size_t index, Kind kind, size_t size);

// The entry `index` of `files`, or an empty name.
std::string file_of(const std::vector<std::string> &files, size_t index);

}  // namespace nestling_bench
