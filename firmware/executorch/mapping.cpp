#include "mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "status.h"

namespace nestling {
namespace {

// Readable bytes kept behind the last byte of a file: more than any vector register.
constexpr size_t kTailBytes = 4096;

size_t page_bytes() {
    static const size_t bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    return bytes;
}

uint64_t round_up(uint64_t value, uint64_t step) {
    return (value + step - 1) / step * step;
}

}  // namespace

Mapping::~Mapping() {
    if (base_ != nullptr) {
        munmap(base_, reserved_);
    }
    if (fd_ >= 0) {
        close(fd_);
    }
}

int Mapping::open_path(const char *path, nst_error *err) {
    fd_ = open(path, O_RDONLY | O_CLOEXEC);
    if (fd_ < 0) {
        return failf(err, NST_E_IO, {}, 0, 0, "cannot open %.120s: %s", path, strerror(errno));
    }
    size_ = 0;
    return map(err);
}

int Mapping::open_fd(int fd, uint64_t offset, uint64_t length, nst_error *err) {
    fd_ = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (fd_ < 0) {
        return failf(err, NST_E_IO, {}, 0, 0, "cannot use descriptor %d: %s", fd, strerror(errno));
    }
    if (length > SIZE_MAX / 2) {
        return failf(err, NST_E_ARGUMENT, {}, 0, length, "the bundle is longer than memory");
    }
    offset_ = offset;
    size_ = static_cast<size_t>(length);
    return map(err);
}

void Mapping::borrow(const void *data, size_t bytes) {
    data_ = static_cast<const uint8_t *>(data);
    size_ = bytes;
}

int Mapping::map(nst_error *err) {
    struct stat status{};
    if (fstat(fd_, &status) != 0) {
        return failf(err, NST_E_IO, {}, 0, 0, "cannot ask for the file's size: %s",
                     strerror(errno));
    }
    if (!S_ISREG(status.st_mode)) {
        return failf(err, NST_E_IO, {}, 0, 0, "not a regular file");
    }
    const uint64_t file_bytes = static_cast<uint64_t>(status.st_size);
    if (offset_ > file_bytes || size_ > file_bytes - offset_) {
        return failf(err, NST_E_TRUNCATED, {}, offset_ + size_, file_bytes,
                     "the file ends before the bundle does");
    }
    if (size_ == 0) {
        size_ = static_cast<size_t>(file_bytes - offset_);
    }
    device_ = status.st_dev;
    inode_ = status.st_ino;
    const size_t lead = static_cast<size_t>(offset_ % page_bytes());
    const size_t mapped = static_cast<size_t>(round_up(lead + size_, page_bytes()));
    reserved_ = mapped + kTailBytes;
    // Reserve first, then map the file over the front: the tail stays readable zeros.
    void *base =
        mmap(nullptr, reserved_, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        return failf(err, NST_E_NO_MEMORY, {}, reserved_, 0, "no address space for the bundle");
    }
    base_ = static_cast<uint8_t *>(base);
    data_ = base_ + lead;
    if (size_ > 0 && mmap(base_, mapped, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd_,
                          static_cast<off_t>(offset_ - lead)) == MAP_FAILED) {
        return failf(err, NST_E_IO, {}, 0, 0, "cannot map the file: %s", strerror(errno));
    }
    return NST_OK;
}

int Mapping::freeze_head(size_t bytes, nst_error *err) {
    if (fd_ < 0 || bytes == 0) {
        return NST_OK;
    }
    const size_t lead = static_cast<size_t>(data_ - base_);
    const size_t wanted =
        static_cast<size_t>(round_up(lead + std::min(bytes, size_), page_bytes()));
    void *copy = mmap(nullptr, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED) {
        return failf(err, NST_E_NO_MEMORY, {}, wanted, 0, "no memory for the manifest");
    }
    // pread, not memcpy: a file that was cut gives a short read here instead of SIGBUS.
    size_t done = 0;
    while (done < wanted) {
        const ssize_t got = pread(fd_, static_cast<uint8_t *>(copy) + done, wanted - done,
                                  static_cast<off_t>(offset_ - lead + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            break;
        }
        done += static_cast<size_t>(got);
    }
    if (done < std::min(wanted, lead + size_)) {
        munmap(copy, wanted);
        return failf(err, NST_E_IO, {}, wanted, done,
                     "the file became shorter while it was opened");
    }
    if (mprotect(copy, wanted, PROT_READ) != 0 ||
        mremap(copy, wanted, wanted, MREMAP_MAYMOVE | MREMAP_FIXED, base_) == MAP_FAILED) {
        munmap(copy, wanted);
        return failf(err, NST_E_NO_MEMORY, {}, wanted, 0, "cannot place the manifest's copy");
    }
    frozen_ = wanted;
    return NST_OK;
}

int Mapping::check_alive(uint64_t *version, nst_error *err) const {
    if (version != nullptr) {
        *version = 0;
    }
    if (fd_ < 0) {
        return NST_OK;
    }
    struct stat status{};
    if (fstat(fd_, &status) != 0) {
        return failf(err, NST_E_IO, {}, 0, 0, "cannot ask for the file's size: %s",
                     strerror(errno));
    }
    const uint64_t file_bytes = static_cast<uint64_t>(status.st_size);
    if (file_bytes < offset_ + size_) {
        return failf(err, NST_E_IO, {}, offset_ + size_, file_bytes,
                     "the bundle's file was cut while it was open");
    }
    if (version != nullptr) {
        *version = static_cast<uint64_t>(status.st_mtim.tv_sec) * 1000000000u +
                   static_cast<uint64_t>(status.st_mtim.tv_nsec);
    }
    return NST_OK;
}

int Mapping::read(uint64_t offset, void *to, size_t bytes, nst_error *err) const {
    if (offset > size_ || bytes > size_ - offset) {
        return failf(err, NST_E_ARGUMENT, {}, size_, offset + bytes, "not inside the bundle");
    }
    if (fd_ < 0) {
        std::memcpy(to, data_ + offset, bytes);
        return NST_OK;
    }
    size_t done = 0;
    while (done < bytes) {
        const ssize_t got = pread(fd_, static_cast<uint8_t *>(to) + done, bytes - done,
                                  static_cast<off_t>(offset_ + offset + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return failf(err, NST_E_IO, {}, bytes, done, "the file cannot be read: %s",
                         strerror(errno));
        }
        if (got == 0) {
            return failf(err, NST_E_IO, {}, bytes, done,
                         "the bundle's file was cut while it was open");
        }
        done += static_cast<size_t>(got);
    }
    return NST_OK;
}

void Mapping::drop(const void *begin, size_t bytes) const noexcept {
    if (fd_ < 0 || bytes == 0) {
        return;
    }
    // Outwards to whole pages: a neighbour's page only comes back from the file once more.
    const size_t page = page_bytes();
    const size_t first = static_cast<size_t>(static_cast<const uint8_t *>(begin) - base_);
    const size_t from = std::max(first / page * page, frozen_);
    const size_t to = std::min<size_t>(round_up(first + bytes, page), reserved_ - kTailBytes);
    if (from < to) {
        madvise(base_ + from, to - from, MADV_DONTNEED);
    }
}

bool Mapping::same_file(const Mapping &other) const {
    if (fd_ < 0 || other.fd_ < 0) {
        return data_ == other.data_ && size_ == other.size_;
    }
    return device_ == other.device_ && inode_ == other.inode_ && offset_ == other.offset_;
}

}  // namespace nestling
