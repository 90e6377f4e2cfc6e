// A stage's program: ExecuTorch's flatbuffer, read from the mapping.
#pragma once

#include <executorch/runtime/core/data_loader.h>
#include <executorch/runtime/executor/program.h>

#include <memory>
#include <optional>

#include "allocators.h"
#include "tables.h"

namespace nestling {

// Gives ExecuTorch pieces of a program. The flatbuffer itself is copied once, because a method reads it
// during every run: the copy is small, and a file that is cut cannot pull it away. Segments of
// backends are read once, while a method is loaded, and are handed out in place.
class ProgramLoader final : public executorch::runtime::DataLoader {
  public:
    explicit ProgramLoader(const ProgramEntry &entry) : entry_(entry) {}

    executorch::runtime::Result<executorch::runtime::FreeableBuffer> load(
        size_t offset, size_t size, const SegmentInfo &segment) const override;
    executorch::runtime::Error load_into(size_t offset, size_t size, const SegmentInfo &segment,
                                         void *buffer) const override;
    executorch::runtime::Result<size_t> size() const override {
        return static_cast<size_t>(entry_.size);
    }

    size_t copied_bytes() const { return copied_bytes_; }
    // Whether the program has buffers of its own that survive from run to run.
    bool has_mutable_data() const { return has_mutable_data_; }

  private:
    bool inside(size_t offset, size_t size) const {
        return offset <= entry_.size && size <= entry_.size - offset;
    }

    const ProgramEntry &entry_;
    mutable size_t copied_bytes_ = 0;
    mutable bool has_mutable_data_ = false;
};

class LoadedProgram {
  public:
    // NST_E_ENGINE when ExecuTorch cannot read it.
    static int load(const ProgramEntry &entry, const Stage &stage,
                    std::unique_ptr<LoadedProgram> *out, nst_error *err);

    const executorch::runtime::Program &program() const { return *program_; }
    const ProgramLoader &loader() const { return loader_; }

  private:
    explicit LoadedProgram(const ProgramEntry &entry) : loader_(entry) {}

    ProgramLoader loader_;
    std::optional<executorch::runtime::Program> program_;
};

}  // namespace nestling
