#include "program.h"

#include <cstdlib>
#include <cstring>

#include "log.h"
#include "status.h"

namespace nestling {

namespace et = executorch::runtime;

et::Result<et::FreeableBuffer> ProgramLoader::load(size_t offset, size_t size,
                                                   const SegmentInfo &segment) const {
    if (!inside(offset, size) || image_.data() == nullptr) {
        return et::Error::InvalidProgram;
    }
    const uint8_t *place = image_.data() + offset;
    const bool aligned = reinterpret_cast<uintptr_t>(place) % 64 == 0;
    if (segment.segment_type == SegmentInfo::Type::Backend && aligned) {
        return et::FreeableBuffer(place, size, nullptr);
    }
    void *copy = aligned_bytes(size);
    if (copy == nullptr) {
        return et::Error::MemoryAllocationFailed;
    }
    std::memcpy(copy, place, size);
    return et::FreeableBuffer(copy, size, [](void *, void *memory, size_t) { std::free(memory); });
}

et::Error ProgramLoader::load_into(size_t offset, size_t size, const SegmentInfo &segment,
                                   void *buffer) const {
    if (!inside(offset, size) || image_.data() == nullptr) {
        return et::Error::InvalidProgram;
    }
    if (segment.segment_type == SegmentInfo::Type::Mutable) {
        has_mutable_data_ = true;
    }
    std::memcpy(buffer, image_.data() + offset, size);
    return et::Error::Ok;
}

int LoadedProgram::load(std::unique_ptr<ProgramImage> image, const Stage &stage,
                        std::unique_ptr<LoadedProgram> *out, nst_error *err) {
    const LogCapture log;
    std::unique_ptr<LoadedProgram> loaded(new LoadedProgram(std::move(image)));
    auto program =
        et::Program::load(&loaded->loader_, et::Program::Verification::InternalConsistency);
    if (!program.ok()) {
        return failf(err, NST_E_ENGINE, {.section = {}, .stage = stage.name}, 0,
                     static_cast<uint64_t>(program.error()),
                     "ExecuTorch cannot read the program: %s",
                     *log.reason() != '\0' ? log.reason() : et::to_string(program.error()));
    }
    loaded->program_.emplace(std::move(program.get()));
    *out = std::move(loaded);
    return NST_OK;
}

}  // namespace nestling
