// The bytes of a bundle: a mapped file, a piece of one, or the caller's memory.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "core/error.h"

namespace nestling {

// Read-only bytes that stay at one address until the object dies. Never copies the weights.
//
// Three guards against a file that changes while it is mapped: the head (prefix and manifest) is
// replaced in place by a private copy, so that no parsed offset can change under the reader;
// `check_alive` tells a file that was cut before its pages are touched; and there is readable
// memory behind the last byte, because vector kernels read past the end of a tensor.
class Mapping {
  public:
    Mapping() = default;
    ~Mapping();
    Mapping(const Mapping &) = delete;
    Mapping &operator=(const Mapping &) = delete;

    int open_path(const char *path, nst_error *err);
    // `length` 0: to the end of the file. Duplicates the descriptor.
    int open_fd(int fd, uint64_t offset, uint64_t length, nst_error *err);
    void borrow(const void *data, size_t bytes);

    const uint8_t *data() const { return data_; }
    size_t size() const { return size_; }

    // Replaces the first `bytes` bytes by a private copy at the same address. File mappings only;
    // does nothing for borrowed memory, whose owner promised not to change it.
    int freeze_head(size_t bytes, nst_error *err);

    // NST_E_IO when the file has become shorter than what is mapped. `*version` (may be null) is a
    // number that changes when somebody writes to the file; 0 for borrowed memory.
    int check_alive(uint64_t *version, nst_error *err) const;

    // Copies bytes out, by reading the file: one that was cut is an error here, not a signal. NST_E_IO.
    int read(uint64_t offset, void *to, size_t bytes, nst_error *err) const;

    // Gives the pages of a range back to the system; they come back from the file when touched.
    void drop(const void *begin, size_t bytes) const noexcept;

    // Whether both show the same bytes of the same file.
    bool same_file(const Mapping &other) const;

  private:
    int map(nst_error *err);

    const uint8_t *data_ = nullptr;
    size_t size_ = 0;
    int fd_ = -1;              // -1: borrowed
    uint8_t *base_ = nullptr;  // of the reservation; data_ - base_ < one page
    size_t reserved_ = 0;      // bytes
    size_t frozen_ = 0;        // bytes at base_ that are a private copy
    uint64_t offset_ = 0;      // of data_ in the file
    dev_t device_ = 0;
    ino_t inode_ = 0;
};

}  // namespace nestling
