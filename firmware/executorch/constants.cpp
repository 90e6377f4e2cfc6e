#include "constants.h"

#include <bitset>
#include <cstring>

#include "hash.h"
#include "status.h"

namespace nestling {
namespace {

// Constants that ExecuTorch points to while a stage is loaded are copied up to this size. The copy
// costs less than the pages around it would, and survives a file that is cut.
constexpr uint64_t kCopiedBytes = 64 * 1024;

// Large ones are used in place, so their place must suit the kernels.
bool misaligned(const uint8_t *data) {
    return reinterpret_cast<uintptr_t>(data) % 64 != 0;
}

}  // namespace

ConstantStore::~ConstantStore() = default;

void ConstantStore::open(const Tables &tables, const nst_bundle &bundle, const Mapping &mapping,
                         bool keep_pages) {
    tables_ = &tables;
    bundle_ = &bundle;
    mapping_ = &mapping;
    keep_pages_ = keep_pages;
    users_.assign(tables.constants.size(), 0);
    seen_.assign(tables.constants.size(), 0);
    copies_.resize(tables.constants.size());
    verified_.assign(tables.sections.size(), false);
}

int ConstantStore::verify(uint32_t section, nst_error *err) {
    if (verified_[section]) {
        return NST_OK;
    }
    if (int code = check_section(*bundle_, section, *mapping_, keep_pages_, err); code != NST_OK) {
        return code;
    }
    verified_[section] = true;
    return NST_OK;
}

int ConstantStore::verify_all(nst_error *err) {
    if (int code = mapping_->check_alive(&verified_version_, err); code != NST_OK) {
        return code;
    }
    for (uint32_t section = 0; section < verified_.size(); ++section) {
        if (int code = verify(section, err); code != NST_OK) {
            return code;
        }
    }
    return NST_OK;
}

void ConstantStore::begin_sum() {
    ++epoch_;
}

uint64_t ConstantStore::add_to_sum(const Stage &stage) {
    uint64_t bytes = 0;
    for (const Binding &binding : stage.bindings) {
        if (seen_[binding.constant] != epoch_) {
            seen_[binding.constant] = epoch_;
            bytes += tables_->constants[binding.constant].size;
        }
    }
    return bytes;
}

uint64_t ConstantStore::bytes_added_by(const Stage &stage) {
    uint64_t bytes = 0;
    begin_sum();
    for (const Binding &binding : stage.bindings) {
        if (users_[binding.constant] == 0 && seen_[binding.constant] != epoch_) {
            seen_[binding.constant] = epoch_;
            bytes += tables_->constants[binding.constant].size;
        }
    }
    return bytes;
}

uint64_t ConstantStore::bytes_freed_by(const Stage &stage) {
    uint64_t bytes = 0;
    begin_sum();
    for (const Binding &binding : stage.bindings) {
        if (users_[binding.constant] == 1 && seen_[binding.constant] != epoch_) {
            seen_[binding.constant] = epoch_;
            bytes += tables_->constants[binding.constant].size;
        }
    }
    return bytes;
}

uint64_t ConstantStore::retain(const Stage &stage) {
    uint64_t bytes = 0;
    begin_sum();  // a stage may bind one constant under two names
    for (const Binding &binding : stage.bindings) {
        if (seen_[binding.constant] == epoch_) {
            continue;
        }
        seen_[binding.constant] = epoch_;
        if (users_[binding.constant]++ == 0) {
            bytes += tables_->constants[binding.constant].size;
        }
    }
    return bytes;
}

uint64_t ConstantStore::release(const Stage &stage) {
    uint64_t bytes = 0;
    begin_sum();
    for (const Binding &binding : stage.bindings) {
        if (seen_[binding.constant] == epoch_) {
            continue;
        }
        seen_[binding.constant] = epoch_;
        if (--users_[binding.constant] == 0) {
            bytes += tables_->constants[binding.constant].size;
            copies_[binding.constant].reset();
        }
    }
    return bytes;
}

int ConstantStore::prepare(const Stage &stage, const ProgramEntry &program, nst_error *err) {
    uint64_t version = 0;
    if (int code = mapping_->check_alive(&version, err); code != NST_OK) {
        return code;
    }
    if (version != verified_version_) {
        // Somebody wrote to the file: what was checked before says nothing any more.
        verified_.assign(verified_.size(), false);
        verified_version_ = version;
    }
    if (int code = verify(program.section, err); code != NST_OK) {
        return code;
    }
    for (const Binding &binding : stage.bindings) {
        const Constant &constant = tables_->constants[binding.constant];
        if (int code = verify(constant.section, err); code != NST_OK) {
            return code;
        }
        const bool wanted =
            constant.has_layout && (constant.size <= kCopiedBytes || misaligned(constant.data));
        if (wanted && copies_[binding.constant] == nullptr) {
            auto *copy = static_cast<uint8_t *>(aligned_bytes(static_cast<size_t>(constant.size)));
            if (copy == nullptr) {
                return failf(err, NST_E_NO_MEMORY, {.section = {}, .stage = stage.name},
                             constant.size, 0, "no memory for a constant");
            }
            std::memcpy(copy, constant.data, static_cast<size_t>(constant.size));
            copies_[binding.constant].reset(copy);
        }
    }
    return NST_OK;
}

void ConstantStore::settle(const Stage &stage, const ProgramEntry &program) {
    if (keep_pages_) {
        return;
    }
    std::bitset<NST_MAX_SECTIONS> touched;
    touched.set(program.section);
    for (const Binding &binding : stage.bindings) {
        touched.set(tables_->constants[binding.constant].section);
    }
    // The kernel maps pages around each one that is touched, so whole sections are given back.
    for (uint32_t section = 0; section < tables_->sections.size(); ++section) {
        if (touched.test(section)) {
            mapping_->drop(mapping_->data() + tables_->sections[section].offset,
                           static_cast<size_t>(tables_->sections[section].size));
        }
    }
}

const uint8_t *ConstantStore::data(uint32_t index) const {
    const auto &copy = copies_[index];
    return copy != nullptr ? copy.get() : tables_->constants[index].data;
}

}  // namespace nestling
