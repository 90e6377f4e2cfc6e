// Where a stage's program finds the constants that it asks for by name.
#pragma once

#include <executorch/runtime/core/named_data_map.h>

#include <string>
#include <string_view>
#include <vector>

#include "constants.h"
#include "program_image.h"

namespace nestling {

// ExecuTorch's view of the constants that one stage binds. Gives pointers, never copies.
class DataMap final : public executorch::runtime::NamedDataMap {
  public:
    // `names` and `constants` outlive the map.
    DataMap(const std::vector<ProgramImage::Name> &names, const ConstantStore &constants)
        : names_(names), constants_(constants) {}

    executorch::runtime::Result<const executorch::runtime::TensorLayout> get_tensor_layout(
        std::string_view key) const override;
    executorch::runtime::Result<executorch::runtime::FreeableBuffer> get_data(
        std::string_view key) const override;
    executorch::runtime::Error load_data_into(std::string_view key, void *buffer,
                                              size_t size) const override;
    executorch::runtime::Result<uint32_t> get_num_keys() const override;
    executorch::runtime::Result<const char *> get_key(uint32_t index) const override;

    // First name that was asked for and is not bound; empty when all were.
    const std::string &missing() const { return missing_; }

  private:
    const ProgramImage::Name *find(std::string_view key) const;

    const std::vector<ProgramImage::Name> &names_;
    const ConstantStore &constants_;
    mutable std::string missing_;
};

}  // namespace nestling
