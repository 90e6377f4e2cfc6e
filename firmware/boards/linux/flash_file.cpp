#include "flash_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "core/bundle.h"

namespace nestling::linux_board {
namespace {

constexpr uint64_t kUnit = NST_SECTION_ALIGNMENT;
constexpr uint64_t kDefaultSlotBytes = 64u << 20;

int fail_file(nst_error *err, int code, const char *what, const std::string &path, int reason) {
    char message[NST_ERROR_MESSAGE_BYTES];
    std::snprintf(message, sizeof message, "%s the flash file %.80s: %.60s", what, path.c_str(),
                  std::strerror(reason));
    return nst_fail(err, code, "flash", nullptr, 0, 0, message);
}

uint64_t round_up(uint64_t value, uint64_t step) {
    return (value + step - 1) / step * step;
}

// Bytes of a flash in which slots.h finds room for two bundles of `slot_bytes`.
uint64_t flash_bytes(uint64_t slot_bytes, uint32_t sector_bytes) {
    const uint64_t bundle = round_up(slot_bytes, kUnit);
    // The header has a bit for each sector of its slot; a sixty-fourth more is room for it.
    const uint64_t header =
        round_up(128 + (bundle + bundle / 64 + kUnit) / sector_bytes / 8, kUnit);
    return round_up(2 * uint64_t{sector_bytes}, kUnit) + 2 * (bundle + header);
}

}  // namespace

FlashFile::~FlashFile() {
    if (flash_.memory != nullptr) {
        munmap(const_cast<uint8_t *>(flash_.memory), flash_.geometry.size_bytes);
    }
    if (fd_ >= 0) {
        ::close(fd_);
    }
}

int FlashFile::open(const FlashFileOptions &options, nst_error *err) {
    durable_ = options.durable;
    ops_ = {.erase =
                [](void *self, size_t offset, nst_error *error) {
                    return static_cast<FlashFile *>(self)->erase(offset, error);
                },
            .program =
                [](void *self, size_t offset, const uint8_t *data, size_t bytes, nst_error *error) {
                    return static_cast<FlashFile *>(self)->program(offset, data, bytes, error);
                },
            .cut_power = nullptr};
    if (options.cut_kills) {
        ops_.cut_power = [](void *) { kill(getpid(), SIGKILL); };
    }
    flash_.ops = &ops_;
    flash_.self = this;
    flash_.geometry.sector_bytes = options.sector_bytes;
    flash_.geometry.page_bytes = options.page_bytes;
    static const uint8_t nothing = 0;
    flash_.memory = &nothing;
    const int sound = nst_flash_check(&flash_, err);
    flash_.memory = nullptr;
    if (sound != NST_OK) {
        return sound;
    }
    fd_ = ::open(options.path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd_ < 0) {
        return fail_file(err, NST_E_IO, "cannot open", options.path, errno);
    }
    if (int code = lock(options, err); code != NST_OK) {
        return code;
    }
    if (int code = size(options, err); code != NST_OK) {
        return code;
    }
    return map(err);
}

// Two stores in one flash would be the end of both.
int FlashFile::lock(const FlashFileOptions &options, nst_error *err) {
    if (flock(fd_, LOCK_EX | LOCK_NB) == 0) {
        return NST_OK;
    }
    return errno == EWOULDBLOCK
               ? fail_file(err, NST_E_STATE, "another program uses", options.path, errno)
               : fail_file(err, NST_E_IO, "cannot lock", options.path, errno);
}

int FlashFile::size(const FlashFileOptions &options, nst_error *err) {
    struct stat status{};
    if (fstat(fd_, &status) != 0) {
        return fail_file(err, NST_E_IO, "cannot ask for the size of", options.path, errno);
    }
    if (!S_ISREG(status.st_mode)) {
        return fail_file(err, NST_E_IO, "cannot use", options.path, EINVAL);
    }
    const uint64_t there = static_cast<uint64_t>(status.st_size);
    if (options.slot_bytes > UINT64_MAX / 4) {
        return nst_fail(err, NST_E_LIMIT, "flash", nullptr, UINT64_MAX / 4, options.slot_bytes,
                        "slots cannot be that large");
    }
    const uint64_t wanted = flash_bytes(
        options.slot_bytes != 0 ? options.slot_bytes : kDefaultSlotBytes, options.sector_bytes);
    if (there == 0) {
        // Whatever is in a new flash, the store erases before it writes: a hole will do.
        if (ftruncate(fd_, static_cast<off_t>(wanted)) != 0) {
            return fail_file(err, NST_E_IO, "cannot make", options.path, errno);
        }
        flash_.geometry.size_bytes = wanted;
        return NST_OK;
    }
    if (options.slot_bytes != 0 && there != wanted) {
        return nst_fail(err, NST_E_LIMIT, "flash", nullptr, wanted, there,
                        "the flash file was made for slots of another size");
    }
    flash_.geometry.size_bytes = there;
    return there % options.sector_bytes == 0
               ? NST_OK
               : nst_fail(err, NST_E_LIMIT, "flash", nullptr, options.sector_bytes, there,
                          "the flash file is not a whole number of sectors");
}

int FlashFile::map(nst_error *err) {
    void *memory = mmap(nullptr, flash_.geometry.size_bytes, PROT_READ, MAP_SHARED, fd_, 0);
    if (memory == MAP_FAILED) {
        return nst_fail(err, NST_E_NO_MEMORY, "flash", nullptr, flash_.geometry.size_bytes, 0,
                        "no address space for the flash file");
    }
    flash_.memory = static_cast<const uint8_t *>(memory);
    return NST_OK;
}

int FlashFile::erase(size_t offset, nst_error *err) {
    static const std::array<uint8_t, NST_SECTION_ALIGNMENT> ones = [] {
        std::array<uint8_t, NST_SECTION_ALIGNMENT> filled{};
        filled.fill(0xFF);
        return filled;
    }();
    return put(offset, ones.data(), flash_.geometry.sector_bytes, err);
}

int FlashFile::program(size_t offset, const uint8_t *data, size_t bytes, nst_error *err) {
    std::array<uint8_t, NST_SECTION_ALIGNMENT> next;  // as large as the largest page
    const uint8_t *now = flash_.memory + offset;
    for (size_t i = 0; i < bytes; ++i) {
        next[i] = static_cast<uint8_t>(now[i] & data[i]);
    }
    return put(offset, next.data(), bytes, err);
}

int FlashFile::put(size_t offset, const uint8_t *data, size_t bytes, nst_error *err) {
    const bool waits = durable_ && offset < 2 * uint64_t{flash_.geometry.sector_bytes};
    if (waits) {
        if (int code = sync(err); code != NST_OK) {
            return code;
        }
    }
    size_t done = 0;
    while (done < bytes) {
        const ssize_t wrote =
            pwrite(fd_, data + done, bytes - done, static_cast<off_t>(offset + done));
        if (wrote > 0) {
            done += static_cast<size_t>(wrote);
        } else if (wrote == 0 || errno != EINTR) {
            return nst_fail(err, NST_E_IO, "flash", nullptr, bytes, done,
                            errno == ENOSPC ? "the disk of the flash file is full"
                                            : "the flash file cannot be written");
        }
    }
    return waits ? sync(err) : NST_OK;
}

int FlashFile::sync(nst_error *err) {
    return fdatasync(fd_) == 0 ? NST_OK
                               : nst_fail(err, NST_E_IO, "flash", nullptr, 0, 0,
                                          "the disk of the flash file reports an error");
}

}  // namespace nestling::linux_board
