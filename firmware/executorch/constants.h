// The weights: whether they were checked, who uses them, what they take.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "allocators.h"
#include "mapping.h"
#include "tables.h"

namespace nestling {

// All constants of one model. Two locks of the owner guard it: `retain`, `release` and the byte
// counts belong to the residency's lock, `prepare` and `settle` to the lock around a load. A stage
// is retained before it is prepared, so what is being prepared cannot go away.
class ConstantStore {
  public:
    ConstantStore() = default;
    ~ConstantStore();
    ConstantStore(const ConstantStore &) = delete;
    ConstantStore &operator=(const ConstantStore &) = delete;

    void open(const Tables &tables, const nst_bundle &bundle, const Mapping &mapping,
              bool keep_pages);

    // Checks every section now.
    int verify_all(nst_error *err);

    // Bytes that loading the stage would add, or unloading it would free, as things are.
    uint64_t bytes_added_by(const Stage &stage);
    uint64_t bytes_freed_by(const Stage &stage);
    // Returns the bytes that this made resident or free.
    uint64_t retain(const Stage &stage);
    uint64_t release(const Stage &stage);

    // Sum over a set of stages, each constant once: between begin_sum and the last add_to_sum
    // nothing else of this object may be used.
    void begin_sum();
    uint64_t add_to_sum(const Stage &stage);

    // Makes the stage's constants usable: sections checked, names claimed, small constants that
    // ExecuTorch keeps a pointer to copied out of the file.
    int prepare(const Stage &stage, const ProgramEntry &program, nst_error *err);
    // Gives the pages that a load has touched back to the system.
    void settle(const Stage &stage, const ProgramEntry &program);

    const Mapping &mapping() const { return *mapping_; }
    const Constant &constant(uint32_t index) const { return tables_->constants[index]; }
    const uint8_t *data(uint32_t index) const;

  private:
    int verify(uint32_t section, nst_error *err);

    const Tables *tables_ = nullptr;
    const nst_bundle *bundle_ = nullptr;
    const Mapping *mapping_ = nullptr;
    bool keep_pages_ = false;
    std::vector<uint32_t> users_;  // [constant] loaded stages that bind it
    std::vector<uint32_t> seen_;   // [constant] `epoch_` when already counted
    uint32_t epoch_ = 0;
    std::vector<std::unique_ptr<uint8_t, FreeDeleter>> copies_;  // [constant] or null
    std::vector<bool> verified_;                                 // [section]
    uint64_t verified_version_ = 0;                              // of the file that was checked
};

}  // namespace nestling
