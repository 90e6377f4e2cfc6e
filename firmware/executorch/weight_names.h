// The names under which XNNPACK's weights cache knows packed weights: one set for the process.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/error.h"
#include "mapping.h"

namespace nestling {

// A model's use of a name, with the bytes that it means by it.
struct NamedWeight {
    std::string_view name;
    const uint8_t *data;
    uint64_t size;
    const Mapping *mapping;
};

// The cache finds packed weights by name alone, in the whole process. Two open models that mean
// different bytes by one name would silently use each other's weights, so the second is refused
// with NST_E_STATE. Every successful claim is returned by one release.
int claim_weight_name(const void *owner, const NamedWeight &weight, nst_error *err);
void release_weight_name(const void *owner, std::string_view name);

}  // namespace nestling
