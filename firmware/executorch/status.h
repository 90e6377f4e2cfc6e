// Errors inside the engine: an nst_code as the return value, details in an nst_error.
#pragma once

#include <string_view>

#include "core/error.h"

namespace nestling {

// What an error is about; either may be empty.
struct Where {
    std::string_view section;
    std::string_view stage;
};

// Fills `err` (may be null) with a printf-style sentence and returns `code`.
[[gnu::format(printf, 6, 7)]] int failf(nst_error *err, int code, const Where &where,
                                        uint64_t expected, uint64_t actual, const char *format,
                                        ...);

}  // namespace nestling
