/* Runs one operator with parameter records that nobody would write. Starts from records that are good, changes a
 * few fields and sizes of tensors at a time, and runs whatever the check accepts, with every tensor in memory
 * of exactly its size. AddressSanitizer and UBSan are the judges.
 *
 *     hostile NUMBER SEED ROUNDS < seeds
 *
 * `seeds` is a sequence of good cases: the record, then 8 sizes as uint32. Prints how many changed cases were
 * accepted and run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "micro/operators.h"

enum { MAX_CASES = 64, LARGEST_TENSOR = 1 << 16 };

typedef struct input_case {
    uint32_t *params;
    uint32_t sizes[NST_MAX_OPERATOR_TENSORS];
} input_case;

static uint64_t state;

static uint32_t draw(void) { /* splitmix64 */
    uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)(z >> 32);
}

static uint32_t changed(uint32_t value) {
    static const uint32_t telling[] = {
        0,
        1,
        2,
        3,
        4,
        16,
        31,
        32,
        127,
        128,
        255,
        256,
        (uint32_t)-1,
        (uint32_t)-31,
        (uint32_t)-32,
        (uint32_t)-127,
        (uint32_t)-128,
        (uint32_t)-129,
        INT32_MAX,
        (uint32_t)INT32_MIN,
        0x3f800000u,
        0x7f800000u,
        0x7fc00000u,
        0x00000001u,
        0x7f7fffffu,
        0x10000u,
        0x20000000u,
    };
    switch (draw() % 6) {
        case 0:
            return value + 1;
        case 1:
            return value - 1;
        case 2:
            return value << draw() % 32 | value >> draw() % 32;
        case 3:
            return draw() % 32;
        case 4:
            return draw();
        default:
            return telling[draw() % (sizeof telling / sizeof *telling)];
    }
}

/* Memory of exactly `bytes` bytes, so that one byte past it is seen; random contents. */
static void *exactly(uint32_t bytes) {
    uint8_t *memory = malloc(bytes);
    if (memory == NULL && bytes != 0) {
        abort();
    }
    for (uint32_t i = 0; i < bytes; ++i) {
        memory[i] = (uint8_t)draw();
    }
    return memory;
}

static int run_once(const nst_operator *operator, const input_case * from) {
    uint32_t *params = exactly(operator->params_bytes);
    uint32_t sizes[NST_MAX_OPERATOR_TENSORS];
    memcpy(params, from->params, operator->params_bytes);
    memcpy(sizes, from->sizes, sizeof sizes);
    for (uint32_t i = 1 + draw() % 3; i > 0; --i) {
        if (draw() % 4 == 0) {
            sizes[draw() % operator->tensors] = changed(from->sizes[draw() % operator->tensors]);
        } else {
            const uint32_t field = draw() % (operator->params_bytes / 4);
            params[field] = changed(params[field]);
        }
    }
    int accepted = 0;
    if (operator->check(params, sizes, UINT32_MAX)) {
        uint32_t needed = operator->scratch_bytes(params);
        accepted = needed <= 16u * LARGEST_TENSOR;
        for (uint32_t i = 0; i < operator->tensors; ++i) {
            accepted &= sizes[i] <= LARGEST_TENSOR;
        }
        if (accepted) {
            void *tensors[NST_MAX_OPERATOR_TENSORS] = {0};
            for (uint32_t i = 0; i < operator->tensors; ++i) {
                tensors[i] = sizes[i] == 0 ? NULL : exactly(sizes[i]);
            }
            void *scratch = exactly(needed);
            operator->run(params, tensors, scratch);
            free(scratch);
            for (uint32_t i = 0; i < operator->tensors; ++i) {
                free(tensors[i]);
            }
        }
    }
    free(params);
    return accepted;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        return 2;
    }
    const nst_operator *operator= nst_find_operator((uint32_t)strtoul(argv[1], NULL, 10));
    state = strtoull(argv[2], NULL, 10);
    const unsigned long rounds = strtoul(argv[3], NULL, 10);
    if (operator== NULL) {
        return 2;
    }
    static input_case cases[MAX_CASES];
    uint32_t count = 0;
    for (; count < MAX_CASES; ++count) {
        input_case *next = &cases[count];
        next->params = exactly(operator->params_bytes);
        if (fread(next->params, operator->params_bytes, 1, stdin) != 1 ||
            fread(next->sizes, sizeof next->sizes, 1, stdin) != 1) {
            free(next->params);
            break;
        }
        if (!operator->check(next->params, next->sizes, UINT32_MAX)) {
            fprintf(stderr, "case %u is not good to begin with\n", (unsigned)count);
            return 2;
        }
    }
    if (count == 0) {
        return 2;
    }
    unsigned long accepted = 0;
    for (unsigned long i = 0; i < rounds; ++i) {
        accepted += (unsigned long)run_once(operator, & cases[draw() % count]);
    }
    printf("%lu\n", accepted);
    for (uint32_t i = 0; i < count; ++i) {
        free(cases[i].params);
    }
    return 0;
}
