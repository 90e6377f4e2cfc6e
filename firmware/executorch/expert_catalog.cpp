#include "expert_catalog.h"

#include <cstring>

#include "status.h"

namespace nestling {
namespace {

int find_section(const nst_bundle &bundle, std::string_view name, nst_section_info *out) {
    const uint32_t index = nst_bundle_find(&bundle, NST_SECTIONS, name.data(), name.size());
    return index == NST_NONE ? NST_E_NOT_FOUND : nst_bundle_section(&bundle, index, out);
}

}  // namespace

int ExpertCatalog::open(const nst_bundle &bundle, const Mapping &mapping, const nst_hash_ops &hash,
                        nst_error *err) {
    if (nst_bundle_find(&bundle, NST_SECTIONS, kExpertIndexSection.data(),
                        kExpertIndexSection.size()) == NST_NONE) {
        return NST_OK;
    }
    const int code = read(bundle, mapping, hash, err);
    if (code != NST_OK) {
        layers_.clear();
    }
    return code;
}

int ExpertCatalog::read(const nst_bundle &bundle, const Mapping &mapping, const nst_hash_ops &hash,
                        nst_error *err) {
    const Where where{.section = kExpertIndexSection, .stage = {}};
    nst_section_info section;
    if (find_section(bundle, kExpertIndexSection, &section) != NST_OK) {
        return failf(err, NST_E_CORRUPT, where, 0, 0, "the index of experts cannot be found");
    }
    const auto size = static_cast<size_t>(section.size);
    index_bytes_.reset(static_cast<uint8_t *>(aligned_bytes(size)));
    if (index_bytes_ == nullptr) {
        return failf(err, NST_E_NO_MEMORY, where, size, 0, "no memory for the index of experts");
    }
    if (int code = mapping.read(section.offset, index_bytes_.get(), size, err); code != NST_OK) {
        return code;
    }
    nst_hash_state state;
    uint8_t digest[NST_HASH_BYTES];
    if (hash.init(&state) != 0 || hash.update(&state, index_bytes_.get(), size) != 0 ||
        hash.final(&state, digest) != 0 ||
        std::memcmp(digest, section.sha256, sizeof digest) != 0) {
        return failf(err, NST_E_HASH, where, 0, 0, "its bytes are not those that were written");
    }
    uint64_t sizes[NST_MAX_EXPERT_SLICES] = {};
    for (uint32_t i = 0; i < NST_MAX_EXPERT_SLICES; ++i) {
        if (find_section(bundle, kExpertSliceSections[i], &section) == NST_OK) {
            offsets_[i] = section.offset;
            sizes[i] = section.size;
        }
    }
    if (int code = nst_expert_index_open(&index_, index_bytes_.get(), size, sizes, err);
        code != NST_OK) {
        return code;
    }
    layers_.resize(index_.layers);
    for (uint32_t i = 0; i < index_.layers; ++i) {
        nst_expert_index_layer(&index_, i, &layers_[i]);
        for (uint32_t slice = 0; slice < index_.slices; ++slice) {
            bytes_ += nst_expert_layer_slice_bytes(&layers_[i], slice) * layers_[i].experts;
        }
    }
    return NST_OK;
}

nst_expert_slice ExpertCatalog::slice(uint32_t layer, uint32_t expert, uint32_t number) const {
    nst_expert_slice slice{};
    nst_expert_index_slice(&index_, layers_[layer].first_expert + expert, number, &slice);
    return slice;
}

}  // namespace nestling
