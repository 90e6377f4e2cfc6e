#include "memory_order.h"

#include <array>
#include <cstring>

#include "core/bundle.h"

namespace nestling {
namespace {

struct Axis {
    size_t size;
    size_t stride;  // in the source, elements
};

// Copies along the axes from `depth` on, `to` moving on; a tensor has few axes, and no more than
// the format allows.
template <typename Element>
Element *copy_axes(Element *to, const Element *from, std::span<const Axis> axes) {
    const Axis axis = axes.front();
    if (axes.size() == 1) {
        for (size_t i = 0; i < axis.size; ++i) {
            *to++ = from[i * axis.stride];
        }
        return to;
    }
    for (size_t i = 0; i < axis.size; ++i) {
        to = copy_axes(to, from + i * axis.stride, axes.subspan(1));
    }
    return to;
}

template <typename Element>
void copy_all(void *to, const void *from, std::span<const Axis> axes) {
    copy_axes(static_cast<Element *>(to), static_cast<const Element *>(from), axes);
}

}  // namespace

bool same_layout(std::span<const int32_t> sizes, const MemoryOrder &a, const MemoryOrder &b) {
    size_t i = 0;
    size_t k = 0;
    // Dimensions of one element take no part.
    while (true) {
        while (i < a.size() && sizes[a[i]] == 1) {
            ++i;
        }
        while (k < b.size() && sizes[b[k]] == 1) {
            ++k;
        }
        if (i == a.size() || k == b.size()) {
            return i == a.size() && k == b.size();
        }
        if (a[i++] != b[k++]) {
            return false;
        }
    }
}

void reorder(void *to, const MemoryOrder &to_order, const void *from, const MemoryOrder &from_order,
             std::span<const int32_t> sizes, size_t element_bytes) {
    // No allocation: this is part of a run.
    std::array<size_t, NST_MAX_DIMS> strides{};
    std::array<Axis, NST_MAX_DIMS> room{};
    size_t stride = 1;
    for (size_t i = from_order.size(); i-- > 0;) {
        strides[from_order[i]] = stride;
        stride *= static_cast<size_t>(sizes[from_order[i]]);
    }
    for (size_t i = 0; i < to_order.size(); ++i) {
        room[i] = {static_cast<size_t>(sizes[to_order[i]]), strides[to_order[i]]};
    }
    const std::span<const Axis> axes(room.data(), to_order.size());
    if (axes.empty()) {
        std::memcpy(to, from, element_bytes);
    } else if (element_bytes == 8) {
        copy_all<uint64_t>(to, from, axes);
    } else if (element_bytes == 4) {
        copy_all<uint32_t>(to, from, axes);
    } else if (element_bytes == 2) {
        copy_all<uint16_t>(to, from, axes);
    } else {
        copy_all<uint8_t>(to, from, axes);
    }
}

}  // namespace nestling
