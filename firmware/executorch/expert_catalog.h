// The experts of a bundle: its index, read and checked.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "core/expert_index.h"
#include "mapping.h"
#include "system_memory.h"

namespace nestling {

// The section of the index, and those of the slices by their number.
inline constexpr std::string_view kExpertIndexSection = "experts";
inline constexpr std::string_view kExpertSliceSections[NST_MAX_EXPERT_SLICES] = {"experts.0",
                                                                                 "experts.1"};

// Fixed after `open`: any number of threads.
class ExpertCatalog {
  public:
    // A bundle without experts is fine. NST_E_CORRUPT, NST_E_HASH, NST_E_NO_MEMORY, NST_E_IO, or as
    // nst_expert_index_open; the catalog is empty then.
    int open(const nst_bundle &bundle, const Mapping &mapping, const nst_hash_ops &hash,
             nst_error *err);

    bool any() const { return !layers_.empty(); }
    const nst_expert_index &index() const { return index_; }
    uint32_t layers() const { return static_cast<uint32_t>(layers_.size()); }
    const nst_expert_layer &layer(uint32_t layer) const { return layers_[layer]; }
    // Of all slices of all experts.
    uint64_t bytes() const { return bytes_; }
    // Of the sections of slices in the bundle.
    const uint64_t *section_offsets() const { return offsets_; }
    // Both are in range by the caller's care.
    nst_expert_slice slice(uint32_t layer, uint32_t expert, uint32_t number) const;

  private:
    int read(const nst_bundle &bundle, const Mapping &mapping, const nst_hash_ops &hash,
             nst_error *err);

    std::unique_ptr<uint8_t, FreeDeleter> index_bytes_;
    nst_expert_index index_{};
    std::vector<nst_expert_layer> layers_;
    uint64_t offsets_[NST_MAX_EXPERT_SLICES] = {};
    uint64_t bytes_ = 0;
};

}  // namespace nestling
