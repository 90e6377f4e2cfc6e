/* Errors of nestling: a negative code, and a record that says where and what.
 *
 * Every function that can fail returns 0 (NST_OK) or one of the codes below and, where it takes an
 * `nst_error *`, fills it. The pointer may be null. On success the record is left as it was.
 */
#ifndef NESTLING_CORE_ERROR_H
#define NESTLING_CORE_ERROR_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

enum nst_code {
    NST_OK = 0,
    NST_E_ARGUMENT = -1,   /* the caller broke the contract of the function: null, out of range */
    NST_E_IO = -2,         /* the operating system could not open, map or read */
    NST_E_FOREIGN = -3,    /* not a nestling bundle at all: the magic differs */
    NST_E_VERSION = -4,    /* a bundle of a newer (or unknown) format version */
    NST_E_TRUNCATED = -5,  /* fewer bytes than the prefix promises */
    NST_E_CORRUPT = -6,    /* a rule of SPEC.md is broken */
    NST_E_HASH = -7,       /* bytes differ from their SHA-256 */
    NST_E_SIGNATURE = -8,  /* signature missing, malformed or by another key */
    NST_E_LIMIT = -9,      /* a limit of the format, or of memory that the caller gave */
    NST_E_PATH = -10,      /* unknown path, or stages that cannot run in that order */
    NST_E_BUDGET = -11,    /* the memory budget is too small; expected - actual bytes are missing */
    NST_E_TARGET = -12,    /* built for a target that this runtime does not have */
    NST_E_CANCELLED = -13, /* cancelled between two stages */
    NST_E_ENGINE = -14,    /* the engine refused a program, a method or a tensor */
    NST_E_NO_MEMORY = -15, /* the allocator of the platform said no */
    NST_E_STATE = -16,     /* called in the wrong order: closed, nothing selected, input unbound */
    NST_E_NOT_FOUND = -17, /* no entry of that name or index */
    NST_E_END = -18        /* a list has no further element; never an error of the bundle */
};

/* Sizes of the texts in `nst_error`, the terminating zero included. Names have at most 127 bytes.
 */
#define NST_ERROR_NAME_BYTES 128
#define NST_ERROR_MESSAGE_BYTES 192

typedef struct nst_error {
    int code; /* one of nst_code */
    char
        section[NST_ERROR_NAME_BYTES]; /* bundle section, or table entry ("stages[3]"); may be "" */
    char stage[NST_ERROR_NAME_BYTES];  /* stage, or position, that is concerned; may be "" */
    uint64_t expected;                 /* both 0 where numbers would say nothing */
    uint64_t actual;
    char message[NST_ERROR_MESSAGE_BYTES]; /* one sentence, lower case, no full stop */
} nst_error;

/* Fill `err` (may be null) and return `code`, so that a caller can write `return nst_fail(...)`.
 * `section`, `stage` and `message` may be null; texts that do not fit are cut at a UTF-8 border. */
int nst_fail(nst_error *err, int code, const char *section, const char *stage, uint64_t expected,
             uint64_t actual, const char *message);

/* The same for an error of no stage, about which numbers would say nothing. */
int nst_fail_in(nst_error *err, int code, const char *section, const char *message);

/* Name of a code, such as "NST_E_CORRUPT"; "NST_E_UNKNOWN" for any other number. Static text. */
const char *nst_code_name(int code);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
