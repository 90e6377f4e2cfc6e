#include "program_image.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "status.h"

namespace nestling {
namespace {

constexpr size_t kSymbolBytes = 7;  // '@' and six digits
constexpr char kFill = '@';

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

}  // namespace

bool is_symbol(std::string_view name) {
    return name.size() == kSymbolBytes && name[0] == kFill &&
           std::all_of(name.begin() + 1, name.end(), is_digit);
}

int ProgramImage::make(const ProgramEntry &entry, const Stage &stage, const std::string &model,
                       std::unique_ptr<ProgramImage> *out, nst_error *err) {
    auto image = std::make_unique<ProgramImage>();
    if (int code = image->unpack(entry, stage, err); code != NST_OK) {
        return code;
    }
    if (int code = image->put_names(stage, model, err); code != NST_OK) {
        return code;
    }
    *out = std::move(image);
    return NST_OK;
}

int ProgramImage::unpack(const ProgramEntry &entry, const Stage &stage, nst_error *err) {
    const Where where{.section = "programs", .stage = stage.name};
    size_ = static_cast<size_t>(entry.unpacked_bytes != 0 ? entry.unpacked_bytes : entry.size);
    bytes_.reset(static_cast<uint8_t *>(aligned_bytes(size_)));
    if (bytes_ == nullptr) {
        return failf(err, NST_E_NO_MEMORY, where, size_, 0, "no memory for the program");
    }
    if (entry.unpacked_bytes == 0) {
        std::memcpy(bytes_.get(), entry.data, size_);
        return NST_OK;
    }
    uLongf written = static_cast<uLongf>(size_);
    uLong read = static_cast<uLong>(entry.size);
    const int result = uncompress2(bytes_.get(), &written, entry.data, &read);
    if (result != Z_OK || written != size_ || read != entry.size) {
        return failf(err, NST_E_CORRUPT, where, size_, written, "the packed program is damaged");
    }
    return NST_OK;
}

int ProgramImage::put_names(const Stage &stage, const std::string &model, nst_error *err) {
    const Where where{.section = {}, .stage = stage.name};
    std::unordered_map<std::string_view, uint32_t> open;  // symbols that were not met yet
    std::unordered_map<std::string_view, uint32_t> symbols;
    for (const Binding &binding : stage.bindings) {
        if (is_symbol(binding.name)) {
            symbols.emplace(binding.name, binding.constant);
        } else {
            names_.push_back({std::string(binding.name), binding.constant});
        }
    }
    open = symbols;
    char *const begin = reinterpret_cast<char *>(bytes_.get());
    char *const end = begin + size_;
    char *at = begin;
    while ((at = static_cast<char *>(std::memchr(at, kFill, static_cast<size_t>(end - at)))) !=
           nullptr) {
        const std::string_view symbol(at, std::min(kSymbolBytes, static_cast<size_t>(end - at)));
        const auto meant = is_symbol(symbol) ? symbols.find(symbol) : symbols.end();
        if (meant == symbols.end()) {
            ++at;
            continue;
        }
        char *stop = at + kSymbolBytes;
        while (stop != end && *stop == kFill) {
            ++stop;
        }
        const size_t room = static_cast<size_t>(stop - at);
        std::string name = model + "." + std::to_string(meant->second);
        if (room < name.size()) {
            return failf(err, NST_E_CORRUPT, where, name.size(), room,
                         "the program leaves no room for a name");
        }
        name.resize(room, kFill);
        const uint32_t constant = meant->second;
        const bool first_use = open.erase(symbol) != 0;
        std::memcpy(at, name.data(), room);
        if (first_use) {
            names_.push_back({std::move(name), constant});
        }
        at = stop;
    }
    if (!open.empty()) {
        return failf(err, NST_E_CORRUPT, where, 0, open.begin()->second,
                     "the program has no symbol %.7s", std::string(open.begin()->first).c_str());
    }
    std::sort(names_.begin(), names_.end(),
              [](const Name &a, const Name &b) { return a.name < b.name; });
    return NST_OK;
}

}  // namespace nestling
