// core/engine.h on libnestling: what the protocol server runs on phones, Raspberry Pis and servers.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "core/engine.h"
#include "nestling.h"
#include "run_thread.h"

namespace nestling::linux_board {

struct ExecutorchOptions {
    uint64_t budget_bytes = 0;  // 0: no limit
    uint32_t threads = 0;       // 0: all processors
    bool has_key = false;       // bundles must be signed with it
    std::array<uint8_t, NST_PUBLIC_KEY_BYTES> public_key{};
};

// One bundle at a time, opened in place in the flash file. All functions but `cancel` belong to the
// server's thread. A run happens on a thread of its own, and the server's thread waits in
// `meanwhile`, where it may answer what does not touch the model.
class ExecutorchEngine {
  public:
    // Returns when `done` says so; is called by the server's thread for each run.
    using Meanwhile = std::function<void(const RunThread &run)>;

    // `flash` is a descriptor of the flash file, which stays open as long as this object lives.
    // `meanwhile` may be empty: then a run just takes its time.
    ExecutorchEngine(int flash, const ExecutorchOptions &options, Meanwhile meanwhile,
                     RunThread::Wake wake);
    ~ExecutorchEngine();
    ExecutorchEngine(const ExecutorchEngine &) = delete;
    ExecutorchEngine &operator=(const ExecutorchEngine &) = delete;

    nst_engine engine();

    int open(uint64_t offset, uint64_t size, nst_error *err);
    void close();
    const nst_bundle *bundle() const;
    int select(uint32_t path, nst_error *err);
    int select_stages(const uint32_t *stages, uint32_t count, nst_error *err);
    int tensor(uint32_t slot, void **out_data, size_t *out_bytes, nst_error *err);
    int run(nst_run_report *out, nst_error *err);
    int stage_report(uint32_t stage, nst_stage_report *out, nst_error *err);
    int memory(nst_engine_memory *out, nst_error *err);
    int set_budget(uint64_t budget_bytes, nst_error *err);
    void set_trace(bool on);
    void cancel();

  private:
    // The two halves of an opened bundle, closed in the right order.
    struct Opened {
        Opened() = default;
        ~Opened();
        Opened(const Opened &) = delete;
        Opened &operator=(const Opened &) = delete;

        nst_model *model = nullptr;
        nst_session *session = nullptr;
        uint64_t loads = 0;      // of stages while it was opened
        uint64_t evictions = 0;  // likewise
    };

    int check_opened(nst_error *err) const;
    int check(Opened &next, nst_error *err) const;
    uint64_t counted_ns(uint32_t stage) const;

    int flash_;
    ExecutorchOptions options_;
    Meanwhile meanwhile_;
    RunThread run_thread_;
    std::unique_ptr<Opened> opened_;
    std::mutex opened_changes_;  // `cancel` looks at opened_ from other threads
    bool tracing_ = false;
    std::vector<uint64_t> traced_ns_;  // [stage] while tracing was on, until it was turned off
    std::vector<uint64_t> before_ns_;  // [stage] counted when tracing was turned on
};

}  // namespace nestling::linux_board
