// Tensors whose dimensions lie in memory in another order: stages of different targets need not agree.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace nestling {

// Orders name the dimensions outermost first.
using MemoryOrder = std::vector<uint8_t>;

// Whether tensors of these sizes lie the same way in both orders.
bool same_layout(std::span<const int32_t> sizes, const MemoryOrder &a, const MemoryOrder &b);

// Copies a tensor into another order. `element_bytes`: 1, 2, 4 or 8.
void reorder(void *to, const MemoryOrder &to_order, const void *from, const MemoryOrder &from_order,
             std::span<const int32_t> sizes, size_t element_bytes);

}  // namespace nestling
