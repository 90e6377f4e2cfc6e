// ExecuTorch's log lines, turned into the reason of an error.
#pragma once

#include <cstddef>

namespace nestling {

// While one lives, what ExecuTorch logs on this thread is kept here and not printed. The first
// line at error level is the cause; what follows is only where it passed through.
class LogCapture {
  public:
    LogCapture();
    ~LogCapture();
    LogCapture(const LogCapture &) = delete;
    LogCapture &operator=(const LogCapture &) = delete;

    // First error line, or "" when none was logged.
    const char *reason() const { return text_; }

  private:
    friend struct LogSink;
    char text_[160] = "";
    LogCapture *outer_;
};

// Starts ExecuTorch's runtime and takes over its log, once per process.
void start_runtime();

}  // namespace nestling
