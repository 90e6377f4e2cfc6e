// The border between C callers and C++: no exception crosses it.
#pragma once

#include <new>
#include <system_error>

#include "log.h"
#include "status.h"

namespace nestling {

inline int null_argument(nst_error *err) {
    return failf(err, NST_E_ARGUMENT, {}, 0, 0, "a null pointer was given");
}

// Nothing is printed either: ExecuTorch's log lines become reasons of errors or vanish.
template <typename Work>
int guarded(nst_error *err, Work work) {
    const LogCapture quiet;
    try {
        return work();
    } catch (const std::bad_alloc &) {
        return failf(err, NST_E_NO_MEMORY, {}, 0, 0, "out of memory");
    } catch (const std::system_error &error) {
        return failf(err, NST_E_NO_MEMORY, {}, 0, 0, "the system refuses: %s", error.what());
    }
}

}  // namespace nestling
