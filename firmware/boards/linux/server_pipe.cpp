#include "server_pipe.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "device.h"

using nestling::linux_board::Device;
using nestling::linux_board::DeviceOptions;

namespace {

// Bytes from the device that nobody has read yet.
class Outbox {
  public:
    void put(const uint8_t *data, size_t bytes) {
        {
            const std::lock_guard lock(mutex_);
            bytes_.insert(bytes_.end(), data, data + bytes);
        }
        changed_.notify_all();
    }

    size_t take(uint8_t *out, size_t capacity, uint32_t timeout_ms) {
        std::unique_lock lock(mutex_);
        changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                          [this] { return taken_ < bytes_.size(); });
        const size_t count = std::min(capacity, bytes_.size() - taken_);
        if (count > 0) {
            std::memcpy(out, bytes_.data() + taken_, count);
            taken_ += count;
        }
        if (taken_ == bytes_.size()) {
            bytes_.clear();
            taken_ = 0;
        }
        return count;
    }

    size_t pending() {
        const std::lock_guard lock(mutex_);
        return bytes_.size() - taken_;
    }

    void clear() {
        const std::lock_guard lock(mutex_);
        bytes_.clear();
        taken_ = 0;
    }

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<uint8_t> bytes_;
    size_t taken_ = 0;  // bytes at its front
};

std::vector<std::string> split(std::string_view list) {
    std::vector<std::string> items;
    while (!list.empty()) {
        const size_t comma = std::min(list.find(','), list.size());
        items.emplace_back(list.substr(0, comma));
        list.remove_prefix(std::min(comma + 1, list.size()));
    }
    return items;
}

DeviceOptions device_options(const nst_pipe_options &from) {
    DeviceOptions to;
    to.flash.path = from.flash_path;
    to.flash.slot_bytes = from.slot_bytes;
    to.flash.sector_bytes = from.sector_bytes;
    to.flash.page_bytes = from.page_bytes;
    to.flash.durable = from.durable != 0;
    to.executorch.budget_bytes = from.budget_bytes;
    to.executorch.threads = from.threads;
    if (from.public_key != nullptr) {
        to.executorch.has_key = true;
        std::copy_n(from.public_key, NST_PUBLIC_KEY_BYTES, to.executorch.public_key.begin());
    }
    to.name = from.device != nullptr ? from.device : "";
    if (from.targets != nullptr) {
        to.targets = split(from.targets);
    }
    to.message_bytes = from.message_bytes;
    to.faults = from.faults != 0;
    void *user = from.user;
    if (from.uptime_ms != nullptr) {
        to.uptime_ms = [ask = from.uptime_ms, user] { return ask(user); };
    }
    if (from.now != nullptr) {
        to.now = [ask = from.now, user] { return ask(user); };
    }
    if (from.sensors != nullptr) {
        to.sensors = [ask = from.sensors, user](nst_smp_sensors &out) { ask(user, &out); };
    }
    return to;
}

int fail(nst_error *err, int code, const char *message) {
    return nst_fail(err, code, nullptr, nullptr, 0, 0, message);
}

template <typename Work>
int guarded(nst_error *err, Work work) {
    try {
        return work();
    } catch (const std::bad_alloc &) {
        return fail(err, NST_E_NO_MEMORY, "out of memory");
    } catch (const std::system_error &) {
        return fail(err, NST_E_NO_MEMORY, "the system refuses a thread or a lock");
    }
}

}  // namespace

struct nst_pipe {
    explicit nst_pipe(DeviceOptions options)
        : device(std::move(options),
                 [this](const uint8_t *data, size_t bytes, uint64_t) { outbox.put(data, bytes); }) {
    }

    int write(const uint8_t *data, size_t bytes, nst_error *err);

    Outbox outbox;
    Device device;
    std::mutex mutex;  // of the two below
    bool serving = false;
    uint64_t written = 0;  // calls of write
};

int nst_pipe::write(const uint8_t *data, size_t bytes, nst_error *err) {
    {
        // Whoever serves looks at `written` under the same lock before it stops.
        const std::lock_guard lock(mutex);
        device.inbox().push(data, bytes, 0);
        ++written;
        if (serving) {
            return NST_OK;
        }
        serving = true;
    }
    while (true) {
        uint64_t seen;
        {
            const std::lock_guard lock(mutex);
            seen = written;
        }
        int code = NST_OK;
        try {
            code = device.serve(err);
        } catch (...) {
            const std::lock_guard lock(mutex);
            serving = false;
            throw;
        }
        const std::lock_guard lock(mutex);
        if (code != NST_OK || seen == written) {
            serving = false;
            return code;
        }
    }
}

extern "C" {

void nst_pipe_options_default(nst_pipe_options *out) {
    if (out != nullptr) {
        const DeviceOptions defaults;
        *out = {};
        out->struct_bytes = sizeof *out;
        out->sector_bytes = defaults.flash.sector_bytes;
        out->page_bytes = defaults.flash.page_bytes;
        out->message_bytes = defaults.message_bytes;
    }
}

int nst_pipe_create_with_engine(const nst_pipe_options *options, const nst_engine *engine,
                                nst_pipe **out, nst_error *err) {
    if (out == nullptr) {
        return fail(err, NST_E_ARGUMENT, "a null pointer was given");
    }
    *out = nullptr;
    if (options == nullptr || options->flash_path == nullptr) {
        return fail(err, NST_E_ARGUMENT, "no flash file is named");
    }
    if (options->struct_bytes != sizeof *options) {
        return nst_fail(err, NST_E_ARGUMENT, nullptr, nullptr, sizeof *options,
                        options->struct_bytes,
                        "options of another library version; use nst_pipe_options_default");
    }
    if (options->message_bytes < NST_SMP_LEAST_BUFFER_BYTES || options->message_bytes > 65535) {
        return nst_fail(err, NST_E_ARGUMENT, nullptr, nullptr, NST_SMP_LEAST_BUFFER_BYTES,
                        options->message_bytes, "messages have 512 to 65535 bytes");
    }
    return guarded(err, [&]() -> int {
        auto pipe = std::make_unique<nst_pipe>(device_options(*options));
        if (int code = pipe->device.open(engine, err); code != NST_OK) {
            return code;
        }
        *out = pipe.release();
        return NST_OK;
    });
}

int nst_pipe_create(const nst_pipe_options *options, nst_pipe **out, nst_error *err) {
    return nst_pipe_create_with_engine(options, nullptr, out, err);
}

void nst_pipe_destroy(nst_pipe *pipe) {
    delete pipe;
}

int nst_pipe_write(nst_pipe *pipe, const void *data, size_t bytes, nst_error *err) {
    if (pipe == nullptr || data == nullptr) {
        return fail(err, NST_E_ARGUMENT, "a null pointer was given");
    }
    return guarded(err,
                   [&] { return pipe->write(static_cast<const uint8_t *>(data), bytes, err); });
}

size_t nst_pipe_read(nst_pipe *pipe, void *out, size_t capacity, uint32_t timeout_ms) {
    return pipe == nullptr || out == nullptr
               ? 0
               : pipe->outbox.take(static_cast<uint8_t *>(out), capacity, timeout_ms);
}

size_t nst_pipe_pending(nst_pipe *pipe) {
    return pipe == nullptr ? 0 : pipe->outbox.pending();
}

void nst_pipe_serve_meanwhile(nst_pipe *pipe) {
    if (pipe != nullptr) {
        pipe->device.serve_meanwhile(nullptr);
    }
}

int nst_pipe_restart(nst_pipe *pipe, nst_error *err) {
    if (pipe == nullptr) {
        return fail(err, NST_E_ARGUMENT, "a null pointer was given");
    }
    return guarded(err, [&]() -> int {
        pipe->outbox.clear();
        return pipe->device.restart(err);
    });
}

const nst_flash *nst_pipe_flash(const nst_pipe *pipe) {
    return pipe == nullptr ? nullptr : &pipe->device.flash();
}

void nst_pipe_cut_after(nst_pipe *pipe, uint64_t operations, nst_flash_cut cut) {
    if (pipe != nullptr) {
        nst_flash_cut_after(&pipe->device.flash(), operations, cut);
    }
}

const nst_smp_counters *nst_pipe_counters(const nst_pipe *pipe) {
    return pipe == nullptr ? nullptr : &pipe->device.counters();
}

}  // extern "C"
