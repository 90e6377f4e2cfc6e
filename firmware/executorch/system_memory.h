// Memory from the system, aligned.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nestling {

// Frees what aligned_bytes gave.
struct FreeDeleter {
    void operator()(void *memory) const noexcept;
};

// `bytes` bytes aligned to 64, or null.
void *aligned_bytes(size_t bytes) noexcept;

// Memory of which address space is reserved at once, while pages come when they are touched: the
// activations of a model, whose stages run one at a time, and the slots of its experts.
class SharedArena {
  public:
    SharedArena() = default;
    ~SharedArena();
    SharedArena(const SharedArena &) = delete;
    SharedArena &operator=(const SharedArena &) = delete;

    // False when the system has no such piece of address space.
    bool reserve(size_t bytes);

    uint8_t *data() const { return data_; }
    size_t size() const { return size_; }

  private:
    uint8_t *data_ = nullptr;
    size_t size_ = 0;
};

}  // namespace nestling
