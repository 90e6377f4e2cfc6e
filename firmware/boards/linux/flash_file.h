// A file as NOR flash (core/flash.h).
#pragma once

#include <string>

#include "core/flash.h"

namespace nestling::linux_board {

// What a flash file is made of; see nst_pipe_options for the meaning of its members.
struct FlashFileOptions {
    std::string path;
    uint64_t slot_bytes = 0;
    uint32_t sector_bytes = 16384;
    uint32_t page_bytes = 4096;
    bool durable = false;
    bool cut_kills = false;  // a cut of power that a test asked for ends the process
};

// The flash is read through a shared mapping and written with pwrite, a sector or page at a time.
// What an operation wrote is in the kernel's hands when it returns, so killing the process at any
// moment leaves the file as a device's flash is after a power cut: operations before it whole, the
// one under way perhaps torn.
//
// When this computer loses power as well, the kernel's order of writing counts: with `durable`,
// everything is brought to the disk (fdatasync) before and after each operation in the first two
// sectors, the superblock's. So a mark never says more than what is there. Data and headers of
// slots are not waited for: the store checks every hash before it says that a slot is complete.
class FlashFile {
  public:
    FlashFile() = default;
    ~FlashFile();
    FlashFile(const FlashFile &) = delete;
    FlashFile &operator=(const FlashFile &) = delete;

    // Opens the file, or makes one. NST_E_IO, NST_E_STATE (somebody else has it open), NST_E_LIMIT
    // (it has another size), NST_E_ARGUMENT.
    int open(const FlashFileOptions &options, nst_error *err);

    // For the store. Its memory, geometry and descriptor live as long as this object.
    nst_flash *flash() { return &flash_; }
    int descriptor() const { return fd_; }

  private:
    int erase(size_t offset, nst_error *err);
    int program(size_t offset, const uint8_t *data, size_t bytes, nst_error *err);
    int put(size_t offset, const uint8_t *data, size_t bytes, nst_error *err);
    int sync(nst_error *err);
    int lock(const FlashFileOptions &options, nst_error *err);
    int size(const FlashFileOptions &options, nst_error *err);
    int map(nst_error *err);

    nst_flash_ops ops_{};
    int fd_ = -1;
    bool durable_ = false;
    nst_flash flash_{};
};

}  // namespace nestling::linux_board
