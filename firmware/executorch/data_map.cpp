#include "data_map.h"

#include <algorithm>
#include <cstring>

#include "scalar_types.h"

namespace nestling {

namespace et = executorch::runtime;

const ProgramImage::Name *DataMap::find(std::string_view key) const {
    const auto at = std::lower_bound(names_.begin(), names_.end(), key,
                                     [](const ProgramImage::Name &known, std::string_view wanted) {
                                         return known.name < wanted;
                                     });
    if (at == names_.end() || at->name != key) {
        if (missing_.empty()) {
            missing_ = key;
        }
        return nullptr;
    }
    return &*at;
}

et::Result<const et::TensorLayout> DataMap::get_tensor_layout(std::string_view key) const {
    const ProgramImage::Name *found = find(key);
    if (found == nullptr) {
        return et::Error::NotFound;
    }
    const Constant &constant = constants_.constant(found->constant);
    if (!constant.has_layout) {
        return et::Error::InvalidExternalData;
    }
    return et::TensorLayout::create(
        et::Span<const int32_t>(constant.shape.data(), constant.shape.size()),
        et::Span<const uint8_t>(constant.dim_order.data(), constant.dim_order.size()),
        scalar_type(constant.dtype));
}

et::Result<et::FreeableBuffer> DataMap::get_data(std::string_view key) const {
    const ProgramImage::Name *found = find(key);
    if (found == nullptr) {
        return et::Error::NotFound;
    }
    const Constant &constant = constants_.constant(found->constant);
    return et::FreeableBuffer(constants_.data(found->constant), constant.size, nullptr);
}

et::Error DataMap::load_data_into(std::string_view key, void *buffer, size_t size) const {
    const ProgramImage::Name *found = find(key);
    if (found == nullptr) {
        return et::Error::NotFound;
    }
    if (size != constants_.constant(found->constant).size) {
        return et::Error::InvalidArgument;
    }
    std::memcpy(buffer, constants_.data(found->constant), size);
    return et::Error::Ok;
}

et::Result<uint32_t> DataMap::get_num_keys() const {
    return static_cast<uint32_t>(names_.size());
}

et::Result<const char *> DataMap::get_key(uint32_t index) const {
    if (index >= names_.size()) {
        return et::Error::InvalidArgument;
    }
    return names_[index].name.c_str();
}

}  // namespace nestling
