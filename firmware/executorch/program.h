// A stage's program as ExecuTorch reads it.
#pragma once

#include <executorch/runtime/core/data_loader.h>
#include <executorch/runtime/executor/program.h>

#include <memory>
#include <optional>

#include "program_image.h"
#include "tables.h"

namespace nestling {

// Gives ExecuTorch pieces of a program's image. What backends read once, while a method is loaded,
// is given in place; what a method reads in every run is a copy of its own, so that the rest of the
// image can go.
class ProgramLoader final : public executorch::runtime::DataLoader {
  public:
    explicit ProgramLoader(const ProgramImage &image) : image_(image) {}

    executorch::runtime::Result<executorch::runtime::FreeableBuffer> load(
        size_t offset, size_t size, const SegmentInfo &segment) const override;
    executorch::runtime::Error load_into(size_t offset, size_t size, const SegmentInfo &segment,
                                         void *buffer) const override;
    executorch::runtime::Result<size_t> size() const override { return image_.size(); }

    // Whether the program has buffers of its own that survive from run to run.
    bool has_mutable_data() const { return has_mutable_data_; }

  private:
    bool inside(size_t offset, size_t size) const {
        return offset <= image_.size() && size <= image_.size() - offset;
    }

    const ProgramImage &image_;
    mutable bool has_mutable_data_ = false;
};

class LoadedProgram {
  public:
    // NST_E_ENGINE when ExecuTorch cannot read it.
    static int load(std::unique_ptr<ProgramImage> image, const Stage &stage,
                    std::unique_ptr<LoadedProgram> *out, nst_error *err);

    const executorch::runtime::Program &program() const { return *program_; }
    const ProgramLoader &loader() const { return loader_; }
    const ProgramImage &image() const { return *image_; }
    // After the last method was loaded: keeps only what methods read.
    void finish() { image_->forget_bytes(); }

  private:
    explicit LoadedProgram(std::unique_ptr<ProgramImage> image)
        : image_(std::move(image)), loader_(*image_) {}

    std::unique_ptr<ProgramImage> image_;
    ProgramLoader loader_;
    std::optional<executorch::runtime::Program> program_;
};

}  // namespace nestling
