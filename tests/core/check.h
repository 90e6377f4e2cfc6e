/* Checks that count instead of ending: a test program says all that is wrong. */
#ifndef NESTLING_TESTS_CORE_CHECK_H
#define NESTLING_TESTS_CORE_CHECK_H

#include <stdio.h>

static int failures;

#define CHECK(condition)                                                              \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            failures++;                                                               \
        }                                                                             \
    } while (0)

/* What a test program returns. */
static inline int finish(void) {
    if (failures > 0) {
        fprintf(stderr, "%d checks failed\n", failures);
    }
    return failures > 0;
}

#endif
