#include "error.h"

#include <stddef.h>

#include "text.h"

static void put(char *buffer, size_t room, const char *text) {
    nst_writer writer;
    nst_writer_start(&writer, buffer, room);
    nst_write(&writer, text);
}

int nst_fail(nst_error *err, int code, const char *section, const char *stage, uint64_t expected,
             uint64_t actual, const char *message) {
    if (err != NULL) {
        err->code = code;
        err->expected = expected;
        err->actual = actual;
        put(err->section, sizeof err->section, section);
        put(err->stage, sizeof err->stage, stage);
        put(err->message, sizeof err->message, message);
    }
    return code;
}

int nst_fail_in(nst_error *err, int code, const char *section, const char *message) {
    return nst_fail(err, code, section, NULL, 0, 0, message);
}

const char *nst_code_name(int code) {
    switch (code) {
        case NST_OK:
            return "NST_OK";
        case NST_E_ARGUMENT:
            return "NST_E_ARGUMENT";
        case NST_E_IO:
            return "NST_E_IO";
        case NST_E_FOREIGN:
            return "NST_E_FOREIGN";
        case NST_E_VERSION:
            return "NST_E_VERSION";
        case NST_E_TRUNCATED:
            return "NST_E_TRUNCATED";
        case NST_E_CORRUPT:
            return "NST_E_CORRUPT";
        case NST_E_HASH:
            return "NST_E_HASH";
        case NST_E_SIGNATURE:
            return "NST_E_SIGNATURE";
        case NST_E_LIMIT:
            return "NST_E_LIMIT";
        case NST_E_PATH:
            return "NST_E_PATH";
        case NST_E_BUDGET:
            return "NST_E_BUDGET";
        case NST_E_TARGET:
            return "NST_E_TARGET";
        case NST_E_CANCELLED:
            return "NST_E_CANCELLED";
        case NST_E_ENGINE:
            return "NST_E_ENGINE";
        case NST_E_NO_MEMORY:
            return "NST_E_NO_MEMORY";
        case NST_E_STATE:
            return "NST_E_STATE";
        case NST_E_NOT_FOUND:
            return "NST_E_NOT_FOUND";
        case NST_E_END:
            return "NST_E_END";
        default:
            return "NST_E_UNKNOWN";
    }
}
