#include "log.h"

#include <executorch/runtime/platform/platform.h>
#include <executorch/runtime/platform/runtime.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <string_view>

#include "attend.h"
#include "expert_operator.h"

namespace nestling {
namespace {

namespace et = executorch::runtime;

thread_local LogCapture *active = nullptr;
pal_emit_log_message_method forward = nullptr;

}  // namespace

struct LogSink {
    static void emit(et_timestamp_t timestamp, et_pal_log_level_t level, const char *filename,
                     const char *function, size_t line, const char *message, size_t length) {
        if (active == nullptr) {
            if (forward != nullptr) {
                forward(timestamp, level, filename, function, line, message, length);
            }
            return;
        }
        const bool error = level == kError || level == kFatal;
        if (error && active->text_[0] == '\0') {
            const size_t bytes = std::min(length, sizeof active->text_ - 1);
            std::memcpy(active->text_, message, bytes);
            active->text_[bytes] = '\0';
        }
    }
};

LogCapture::LogCapture() : outer_(active) {
    active = this;
}

LogCapture::~LogCapture() {
    active = outer_;
}

void start_runtime() {
    static std::once_flag once;
    std::call_once(once, [] {
        et::runtime_init();
        register_attend();
        register_experts();
        // Another user of ExecuTorch in the process may have its own log: then that one stays, and
        // errors are described by their code alone.
        const et::PalImpl *present = et::get_pal_impl();
        const char *source = present->source_filename;
        if (source == nullptr || !std::string_view(source).ends_with("platform.cpp")) {
            return;
        }
        forward = present->emit_log_message;
        (void)et::register_pal(et::PalImpl::create(&LogSink::emit, __FILE__));
    });
}

}  // namespace nestling
