// A whole device: flash, bundle store, engine and protocol server, put together.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/engine.h"
#include "core/slots.h"
#include "core/smp_server.h"
#include "executorch_engine.h"
#include "flash_file.h"
#include "inbox.h"

namespace nestling::linux_board {

struct DeviceOptions {
    FlashFileOptions flash;
    ExecutorchOptions executorch;
    std::string name;  // empty: "linux-" and the processor
    std::vector<std::string> targets = {"xnnpack"};
    uint32_t message_bytes = 16384;
    bool faults = false;
    // Instead of what this computer says; empty: as it says. See nst_pipe_options.
    std::function<uint64_t()> uptime_ms;
    std::function<uint64_t()> now;
    std::function<void(nst_smp_sensors &)> sensors;
};

// Bytes come in through `inbox`, from any thread; all else belongs to one thread at a time, the
// server's. An answer goes to the client whose request it is.
class Device {
  public:
    using Send = std::function<void(const uint8_t *data, size_t bytes, uint64_t client)>;

    Device(DeviceOptions options, Send send);
    ~Device();
    Device(const Device &) = delete;
    Device &operator=(const Device &) = delete;

    // Opens the flash, and starts. `engine`: the caller's, or null for ExecuTorch. Errors as
    // nst_pipe_create.
    int open(const nst_engine *engine, nst_error *err);

    // Power off and on: what is under way is lost. NST_E_IO: the power failed while starting.
    int restart(nst_error *err);

    // Answers everything in the inbox; a reset that was asked for is carried out. NST_E_STATE: the
    // power is off. Other errors as `restart`.
    int serve(nst_error *err);

    // Serves until `end`. Errors as `serve`.
    int serve_until_end(nst_error *err);

    // From any thread: stop serving, after the answer that is under way; a run is cancelled.
    // ExecuTorch engine only.
    void end();

    // From inside of a run: answers what has come, and goes on until the run is done. Without a
    // run: only what has come.
    void serve_meanwhile(const RunThread *run);

    Inbox &inbox() { return inbox_; }
    nst_flash &flash() { return *flash_.flash(); }
    const nst_flash &flash() const { return const_cast<Device *>(this)->flash(); }
    const nst_smp_counters &counters() const { return server_.counters; }
    const nst_store &store() const { return store_; }

  private:
    int start(nst_error *err);
    void take_all();

    static const nst_smp_platform_ops kPlatform;

    DeviceOptions options_;
    std::vector<const char *> targets_;
    Send send_;
    Inbox inbox_;
    FlashFile flash_;
    std::optional<ExecutorchEngine> executorch_;
    nst_engine engine_{};
    std::unique_ptr<uint32_t[]> index_;
    std::unique_ptr<uint8_t[]> request_;
    std::unique_ptr<uint8_t[]> response_;
    std::vector<nst_policy_cost> costs_;
    nst_store store_{};
    nst_smp_server server_{};
    nst_smp_line line_{};
    uint64_t client_ = 0;  // whose byte was taken last
    uint64_t started_ns_ = 0;
    bool reset_ = false;
    std::atomic<bool> ending_{false};
};

}  // namespace nestling::linux_board
