#include "status.h"

#include <cstdarg>
#include <cstdio>
#include <string>

namespace nestling {

int failf(nst_error *err, int code, const Where &where, uint64_t expected, uint64_t actual,
          const char *format, ...) {
    if (err == nullptr) {
        return code;
    }
    char message[NST_ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    const std::string section(where.section);
    const std::string stage(where.stage);
    return nst_fail(err, code, section.c_str(), stage.c_str(), expected, actual, message);
}

}  // namespace nestling
