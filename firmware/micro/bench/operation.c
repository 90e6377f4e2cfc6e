#include "micro/bench/operation.h"

#include <string.h>

#include "boards/cortex_m/board.h"

#define GUARD_BYTES 32u
#define GUARD 0x5A

/* Floats as activations are: most small, halves of a step among them, some out of every range. */
static float random_float(uint32_t *random) {
    const uint32_t bits = bench_random(random);
    const float value = ((float)(bits % 4096) - 2048.0f) / 16.0f;
    return bits >> 20 == 0 ? value * 0x1p100f : bits & 0x80000 ? value : value * 0.0173f;
}

static void fill(const bench_operation *operation, uint32_t index, uint8_t *tensor,
                 uint32_t *random) {
    if (operation->floats >> index & 1) {
        for (uint32_t i = 0; i < operation->bytes[index] / 4; ++i) {
            ((float *)tensor)[i] = random_float(random);
        }
        return;
    }
    /* Narrow values as well: sums near ties, rows with one maximum that repeats. */
    const uint32_t mask = bench_random(random) & 1 ? 0xff : 0x0f;
    for (uint32_t i = 0; i < operation->bytes[index]; ++i) {
        tensor[i] = (uint8_t)((bench_random(random) & mask) - (mask == 0x0f ? 8 : 0));
    }
}

bench_result bench_run_operation(const bench_operation *operation, bench_memory memory,
                                 uint32_t *random) {
    const nst_operator *operator= operation->operator;
    const uint32_t last = operator->tensors - 1;
    const uint32_t output_bytes = operation->bytes[last];
    bench_result result = {.macs = operation->units};
    const uint32_t scratch_bytes = operator->scratch_bytes(&operation->params);
    if (!operator->check(&operation->params, operation->bytes, scratch_bytes)) {
        result.mismatches = UINT32_MAX;
        return result;
    }
    void *tensors[4] = {0};
    for (uint32_t i = 0; i < last; ++i) {
        if (operation->bytes[i] > 0) {
            memory.edge = (uint8_t *)((uintptr_t)(memory.edge - operation->bytes[i]) &
                                      ~(uintptr_t)(operation->floats >> i & 1 ? 3 : 0));
            tensors[i] = memory.edge;
            fill(operation, i, memory.edge, random);
        }
    }
    uint8_t *scratch = memory.begin;
    uint8_t *output = scratch + ((scratch_bytes + 15) & ~15u) + 2 * GUARD_BYTES;
    uint8_t *expected = output + ((output_bytes + 15) & ~15u) + GUARD_BYTES;
    memset(scratch, GUARD, (uint32_t)(expected - scratch));

    const uint64_t start = nst_board_instructions();
    const uint64_t call = nst_board_instructions() - start;
    tensors[last] = output;
    const uint64_t before_fast = nst_board_instructions();
    operator->run(&operation->params, tensors, scratch);
    const uint64_t after_fast = nst_board_instructions();
    for (uint32_t i = 0; i < GUARD_BYTES; ++i) {
        result.mismatches += (output - GUARD_BYTES)[i] != GUARD;
        result.mismatches += (output + output_bytes)[i] != GUARD;
        result.mismatches += (scratch + scratch_bytes)[i] != GUARD;
    }
    tensors[last] = expected;
    const uint64_t before_portable = nst_board_instructions();
    operation->portable(&operation->params, tensors, scratch);
    result.portable = nst_board_instructions() - before_portable - call;
    result.fast = after_fast - before_fast - call;
    for (uint32_t i = 0; i < output_bytes; ++i) {
        result.mismatches += output[i] != expected[i];
    }
    return result;
}
