/* Any bytes as a plan: what the reader accepts must run without touching a byte that it may not. All memory is
 * allocated to the exact size, so that AddressSanitizer sees one byte too many. */
#define _POSIX_C_SOURCE 200809L /* posix_memalign */

#include <stdlib.h>
#include <string.h>

#include "fuzz_bundle.h"
#include "micro/plan.h"

enum { MOST_PIECES = 512, MOST_BYTES_OF_A_PIECE = 4096, TOTAL_BYTES_AT = 8 };

static void *pieces[MOST_PIECES];
static size_t piece_count;

static void *piece(size_t bytes) {
    if (posix_memalign(&pieces[piece_count], NST_PLAN_ALIGNMENT, bytes > 0 ? bytes : 1) != 0) {
        abort();
    }
    uint8_t *data = pieces[piece_count];
    for (size_t i = 0; i < bytes; i++) {
        data[i] = (uint8_t)(i * 37 + piece_count);
    }
    return pieces[piece_count++];
}

static bool small(const uint32_t *bytes, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (bytes[i] > MOST_BYTES_OF_A_PIECE) {
            return false;
        }
    }
    return true;
}

static void run(const nst_plan *plan) {
    const uint64_t count = (uint64_t)plan->input_count + plan->output_count + plan->constant_count;
    if (count > MOST_PIECES - 8 || plan->arena_bytes > 4 * MOST_BYTES_OF_A_PIECE ||
        !small(plan->input_bytes, (uint32_t)count)) { /* the three tables follow each other */
        return;
    }
    void **slots = piece(count * sizeof *slots);
    for (uint32_t i = 0; i < count; i++) {
        slots[i] = piece(plan->input_bytes[i]);
    }
    const nst_plan_memory memory = {
        .inputs = slots,
        .outputs = slots + plan->input_count,
        .constants = (const void *const *)(slots + plan->input_count + plan->output_count),
        .arena = piece(plan->arena_bytes),
    };
    for (uint32_t i = 0; i < plan->operator_count; i++) {
        nst_plan_run_operator(plan, i, &memory);
    }
}

bool fuzz_seed(const uint8_t *data, size_t size, const uint8_t **out_plan, size_t *out_bytes) {
    *out_plan = data;
    *out_bytes = size;
    return size >= NST_PLAN_HEADER_BYTES;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    nst_plan plan;
    nst_error err;
    uint8_t *copy = piece(size);
    memcpy(copy, data, size);
    if (size >= NST_PLAN_HEADER_BYTES) { /* so that what was cut or inserted is looked at */
        const uint32_t total = (uint32_t)size;
        memcpy(copy + TOTAL_BYTES_AT, &total, sizeof total);
    }
    if (nst_plan_open(&plan, copy, size, NST_ISA_ANY, &err) == NST_OK) {
        run(&plan);
    }
    while (piece_count > 0) {
        free(pieces[--piece_count]);
    }
    return 0;
}
