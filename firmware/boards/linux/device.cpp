#include "device.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <chrono>
#include <utility>

#include "nestling.h"
#include "sensors.h"

namespace nestling::linux_board {
namespace {

// Enough for the index of the largest manifest that the format allows; memory that is not touched
// costs nothing.
constexpr size_t kIndexBytes = NST_MAX_MANIFEST_BYTES / 2 + 4096;

uint64_t monotonic_ns() {
    using std::chrono::duration_cast, std::chrono::nanoseconds, std::chrono::steady_clock;
    return static_cast<uint64_t>(
        duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count());
}

std::string default_name() {
    utsname system{};
    return uname(&system) == 0 ? std::string("linux-") + system.machine : "linux";
}

}  // namespace

const nst_smp_platform_ops Device::kPlatform = {
    .uptime_ms = [](void *self) -> uint64_t {
        const auto &device = *static_cast<Device *>(self);
        return device.options_.uptime_ms ? device.options_.uptime_ms()
                                         : (monotonic_ns() - device.started_ns_) / 1000000;
    },
    .now = [](void *self) -> uint64_t {
        const auto &device = *static_cast<Device *>(self);
        return device.options_.now ? device.options_.now() : monotonic_ns();
    },
    .reset = [](void *self) { static_cast<Device *>(self)->reset_ = true; },
    .sensors =
        [](void *self, nst_smp_sensors *out) {
            const auto &device = *static_cast<Device *>(self);
            if (device.options_.sensors) {
                device.options_.sensors(*out);
            } else {
                read_sensors("/sys", out);
            }
        },
    .alive = nullptr,
};

Device::Device(DeviceOptions options, Send send)
    : options_(std::move(options)), send_(std::move(send)), costs_(NST_MAX_PATHS) {
    if (options_.name.empty()) {
        options_.name = default_name();
    }
    for (const std::string &target : options_.targets) {
        targets_.push_back(target.c_str());
    }
}

Device::~Device() {
    if (engine_.ops != nullptr) {
        engine_.ops->close(engine_.self);
    }
}

int Device::open(const nst_engine *engine, nst_error *err) {
    if (int code = flash_.open(options_.flash, err); code != NST_OK) {
        return code;
    }
    if (engine != nullptr) {
        engine_ = *engine;
    } else {
        executorch_.emplace(
            flash_.descriptor(), options_.executorch,
            [this](const RunThread &run) { serve_meanwhile(&run); }, [this] { inbox_.wake(); });
        engine_ = executorch_->engine();
    }
    index_ = std::make_unique_for_overwrite<uint32_t[]>(kIndexBytes / sizeof(uint32_t));
    request_ = std::make_unique<uint8_t[]>(options_.message_bytes + 2);
    response_ = std::make_unique<uint8_t[]>(options_.message_bytes);
    return start(err);
}

int Device::start(nst_error *err) {
    started_ns_ = monotonic_ns();
    reset_ = false;
    if (int code = nst_store_open(&store_, flash_.flash(), nst_platform_hash(), index_.get(),
                                  kIndexBytes, err);
        code != NST_OK) {
        return code;
    }
    const nst_smp_config config = {.device = options_.name.c_str(),
                                   .version = nst_version(),
                                   .targets = targets_.data(),
                                   .target_count = static_cast<uint32_t>(targets_.size()),
                                   .platform = &kPlatform,
                                   .platform_self = this,
                                   .engine = engine_,
                                   .store = &store_,
                                   .costs = costs_.data(),
                                   .cost_count = static_cast<uint32_t>(costs_.size()),
                                   .buffer_bytes = options_.message_bytes,
                                   .faults = options_.faults};
    if (int code = nst_smp_server_init(&server_, &config, err); code != NST_OK) {
        return code;
    }
    nst_smp_line_init(
        &line_, &server_, request_.get(), response_.get(),
        [](void *self, const uint8_t *data, size_t bytes) {
            auto &device = *static_cast<Device *>(self);
            if (!device.flash().dead) {
                device.send_(data, bytes, device.client_);
            }
        },
        this);
    if (int code = nst_smp_server_boot(&server_, err); code != NST_OK) {
        return code;
    }
    return !flash().dead ? NST_OK
                         : nst_fail(err, NST_E_IO, "flash", nullptr, 0, 0, "the power was cut");
}

int Device::restart(nst_error *err) {
    inbox_.clear();
    flash().dead = false;
    engine_.ops->close(engine_.self);
    return start(err);
}

void Device::take_all() {
    uint8_t byte = 0;
    uint64_t client = 0;
    while (!reset_ && !ending_ && !flash().dead && inbox_.take(&byte, &client)) {
        client_ = client;
        nst_smp_line_take(&line_, byte);
    }
}

int Device::serve(nst_error *err) {
    while (true) {
        take_all();
        if (flash().dead) {
            inbox_.clear();
            return nst_fail(err, NST_E_STATE, "flash", nullptr, 0, 0, "the device has no power");
        }
        if (!reset_) {
            return NST_OK;
        }
        // What a client has sent since the answer to its reset waits: not every client asks twice.
        engine_.ops->close(engine_.self);
        if (int code = start(err); code != NST_OK) {
            return code;
        }
    }
}

int Device::serve_until_end(nst_error *err) {
    while (!ending_) {
        inbox_.wait([this] { return ending_.load(); });
        if (int code = serve(err); code != NST_OK) {
            return code;
        }
    }
    return NST_OK;
}

void Device::end() {
    ending_ = true;
    engine_.ops->cancel(engine_.self);
    inbox_.wake();
}

void Device::serve_meanwhile(const RunThread *run) {
    // The answer to the run itself goes to who asked for it, whoever asks for something meanwhile.
    const uint64_t runner = client_;
    take_all();
    while (run != nullptr && !run->done()) {
        inbox_.wait([this, run] { return ending_ || run->done(); });
        if (ending_) {
            break;  // the engine waits for the run that was cancelled
        }
        take_all();
    }
    client_ = runner;
}

}  // namespace nestling::linux_board
