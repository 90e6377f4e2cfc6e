#include "swap_file.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "status.h"

namespace nestling {
namespace {

uint32_t checksum_of(const uint8_t *data, size_t bytes) {
    return static_cast<uint32_t>(crc32_z(0, data, bytes));
}

// As pwrite and pread, to the end. False with errno; a file that ends early gives errno 0.
bool write_all(int file, const uint8_t *data, size_t bytes, size_t offset) {
    while (bytes != 0) {
        const ssize_t done = pwrite(file, data, bytes, static_cast<off_t>(offset));
        if (done < 0 && errno != EINTR) {
            return false;
        }
        const size_t step = done < 0 ? 0 : static_cast<size_t>(done);
        data += step;
        offset += step;
        bytes -= step;
    }
    return true;
}

bool read_all(int file, uint8_t *data, size_t bytes, size_t offset) {
    while (bytes != 0) {
        const ssize_t done = pread(file, data, bytes, static_cast<off_t>(offset));
        if (done == 0) {
            errno = 0;
            return false;
        }
        if (done < 0 && errno != EINTR) {
            return false;
        }
        const size_t step = done < 0 ? 0 : static_cast<size_t>(done);
        data += step;
        offset += step;
        bytes -= step;
    }
    return true;
}

}  // namespace

SwapFile::SwapFile(const CacheLayout &layout, std::string path)
    : layout_(layout), path_(std::move(path)), saved_(layout.parts.size() * layout.blocks) {}

SwapFile::~SwapFile() {
    close_after_loading();
    if (made_) {
        unlink(path_.c_str());
    }
}

int SwapFile::save(const uint8_t *memory, std::span<const uint32_t> blocks,
                   std::span<const RowRange> filled, const std::atomic<bool> *stop,
                   SwapCounts *counts, nst_error *err) {
    // The first time must be the first: what lies there already is not ours.
    const int fresh = made_ ? 0 : O_EXCL;
    file_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | fresh, 0600);
    if (file_ < 0) {
        return failf(err, NST_E_STATE, {}, 0, 0, "the swap file %.100s cannot be opened: %s",
                     path_.c_str(), std::strerror(errno));
    }
    made_ = true;
    int code = NST_OK;
    for (uint32_t part = 0; part < layout_.parts.size() && code == NST_OK; ++part) {
        size_t i = 0;
        while (i < blocks.size() && code == NST_OK) {
            size_t run = 1;
            while (i + run < blocks.size() && blocks[i + run] == blocks[i] + run) {
                ++run;
            }
            if (stop != nullptr && stop->load(std::memory_order_relaxed)) {
                code = NST_E_CANCELLED;
                break;
            }
            code = save_run(memory, part, blocks[i], blocks[i] + static_cast<uint32_t>(run),
                            filled[part].end, counts, err);
            i += run;
        }
    }
    close_after_loading();
    return code;
}

int SwapFile::save_run(const uint8_t *memory, uint32_t part, uint32_t first, uint32_t end,
                       uint32_t filled, SwapCounts *counts, nst_error *err) {
    const CachePart &cache = layout_.parts[part];
    size_t bytes = 0;
    const size_t offset = cache.offset + first * cache.block_bytes;
    for (uint32_t block = first; block < end; ++block) {
        const uint32_t start = block * layout_.block_tokens;
        const uint32_t rows = filled > start ? std::min(filled - start, layout_.block_tokens) : 0;
        const uint8_t *data = memory + cache.offset + block * cache.block_bytes;
        saved(part, block) = {rows, checksum_of(data, rows * cache.row_bytes)};
        bytes += rows * cache.row_bytes;
    }
    if (bytes == 0) {
        return NST_OK;
    }
    if (!write_all(file_, memory + offset, bytes, offset)) {
        return failf(err, NST_E_STATE, {}, 0, 0, "the swap file %.100s cannot be written: %s",
                     path_.c_str(), std::strerror(errno));
    }
    counts->bytes += bytes;
    ++counts->transfers;
    return NST_OK;
}

int SwapFile::open_for_loading(nst_error *err) {
    file_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (file_ < 0) {
        return failf(err, NST_E_STATE, {}, 0, 0, "the swap file %.100s cannot be opened: %s",
                     path_.c_str(), std::strerror(errno));
    }
    return NST_OK;
}

void SwapFile::close_after_loading() {
    if (file_ >= 0) {
        close(file_);
        file_ = -1;
    }
}

int SwapFile::load(uint32_t part, std::span<const uint32_t> blocks, uint8_t *memory,
                   SwapCounts *counts, nst_error *err) {
    const CachePart &cache = layout_.parts[part];
    size_t i = 0;
    while (i < blocks.size()) {
        // Neighbours, as long as their rows touch.
        const uint32_t first = blocks[i];
        size_t bytes = saved(part, first).rows * cache.row_bytes;
        size_t run = 1;
        while (i + run < blocks.size() && blocks[i + run] == first + run &&
               bytes == run * cache.block_bytes) {
            bytes += saved(part, blocks[i + run]).rows * cache.row_bytes;
            ++run;
        }
        const size_t offset = cache.offset + first * cache.block_bytes;
        if (!read_all(file_, memory + offset, bytes, offset)) {
            return failf(err, NST_E_STATE, {}, 0, 0, "the swap file %.100s cannot be read: %s",
                         path_.c_str(), errno == 0 ? "it was cut" : std::strerror(errno));
        }
        if (bytes != 0) {
            counts->bytes += bytes;
            ++counts->transfers;
        }
        for (uint32_t block = first; block < first + run; ++block) {
            const Saved &known = saved(part, block);
            const uint8_t *data = memory + cache.offset + block * cache.block_bytes;
            if (checksum_of(data, known.rows * cache.row_bytes) != known.checksum) {
                return failf(err, NST_E_STATE, {}, known.checksum,
                             checksum_of(data, known.rows * cache.row_bytes),
                             "the swap file %.100s does not hold what was written there",
                             path_.c_str());
            }
        }
        i += run;
    }
    return NST_OK;
}

}  // namespace nestling
