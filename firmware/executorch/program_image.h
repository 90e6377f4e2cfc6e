// A stage's own copy of its program: unpacked, and with the names of its constants put in.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "allocators.h"
#include "tables.h"

namespace nestling {

// A program is stored without the names of the weights that delegates ask for: equal layers, and
// equal models, are one program. In the place of each name stands a symbol, '@', six digits and '@'
// up to the length of the name, to which the stage binds a constant. An image replaces each symbol
// by a name that means this constant of this model in the whole process, because XNNPACK's weights
// cache finds packed weights by name alone, in the whole process.
class ProgramImage {
  public:
    // `model` makes names unique among different models. NST_E_CORRUPT (the packed bytes are
    // damaged, or a symbol does not stand in the program), NST_E_NO_MEMORY.
    static int make(const ProgramEntry &entry, const Stage &stage, const std::string &model,
                    std::unique_ptr<ProgramImage> *out, nst_error *err);

    const uint8_t *data() const { return bytes_.get(); }
    size_t size() const { return size_; }
    // Frees the bytes; names and size stay.
    void forget_bytes() { bytes_.reset(); }

    // A constant under the name by which the finished program asks for it; sorted by name.
    struct Name {
        std::string name;
        uint32_t constant;
    };
    const std::vector<Name> &names() const { return names_; }

  private:
    int unpack(const ProgramEntry &entry, const Stage &stage, nst_error *err);
    int put_names(const Stage &stage, const std::string &model, nst_error *err);

    std::unique_ptr<uint8_t, FreeDeleter> bytes_;
    size_t size_ = 0;
    std::vector<Name> names_;
};

// Whether a binding's name is a symbol: '@' and six digits.
bool is_symbol(std::string_view name);

}  // namespace nestling
