/* Counts what the heap is asked for while a session switches and runs.
 *
 *     switch_allocations BUNDLE [SLOTS]
 *
 * Loads every named path, then switches between all of them, and between lists of stages, with
 * every allocation of the process counted. Prints one line "select N select_stages N run N"; the
 * test wants zeros. SLOTS is memory for experts: so few that each run reads some. The allocator's
 * functions are replaced for the whole process, shared libraries included, by ones that count.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nestling.h"

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *memory, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);

static atomic_ulong allocations;

void *malloc(size_t bytes) {
    atomic_fetch_add(&allocations, 1);
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes) {
    atomic_fetch_add(&allocations, 1);
    return __libc_calloc(count, bytes);
}

void *realloc(void *memory, size_t bytes) {
    atomic_fetch_add(&allocations, 1);
    return __libc_realloc(memory, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes) {
    atomic_fetch_add(&allocations, 1);
    return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **out, size_t alignment, size_t bytes) {
    atomic_fetch_add(&allocations, 1);
    *out = __libc_memalign(alignment, bytes);
    return *out == NULL ? ENOMEM : 0;
}

static nst_error err;

static void must(int code) {
    if (code != NST_OK) {
        fprintf(stderr, "%s (%s)\n", err.message, err.stage);
        exit(1);
    }
}

static void limit_experts(nst_model *model, const char *slots) {
    nst_expert_options options;
    nst_expert_view view;
    must(nst_model_expert_view(model, &view, &err));
    nst_expert_options_default(&options);
    options.budget_bytes = strtoull(slots, NULL, 10) * view.slot_bytes;
    must(nst_model_configure_experts(model, &options, &err));
}

int main(int argc, char **argv) {
    enum { MOST_STAGES = 64, ROUNDS = 3 };
    nst_model *model = NULL;
    nst_session *session = NULL;
    nst_model_options options;
    uint32_t stages[MOST_STAGES];
    unsigned long counted[3] = {0, 0, 0};
    nst_path_view view;
    if (argc != 2 && argc != 3) {
        return 2;
    }
    nst_model_options_default(&options);
    options.threads = 1;
    must(nst_model_open_path(argv[1], &options, &model, &err));
    if (argc == 3) {
        limit_experts(model, argv[2]);
    }
    must(nst_session_create(model, &session, &err));
    for (int round = 0; round < ROUNDS; round++) {
        const int warm = round == 0; /* loads, and the library's own first times */
        for (uint32_t path = 0; path < nst_model_path_count(model); path++) {
            must(nst_model_path(model, path, &view, &err));
            for (uint32_t mode = view.fused != NST_NONE ? NST_MODE_FUSED : NST_MODE_CHAIN;
                 mode <= NST_MODE_CHAIN; mode++) {
                unsigned long before = atomic_load(&allocations);
                must(nst_session_select(session, path, mode, &err));
                counted[0] += warm ? 0 : atomic_load(&allocations) - before;
                before = atomic_load(&allocations);
                must(nst_session_run(session, &err));
                counted[2] += warm ? 0 : atomic_load(&allocations) - before;
            }
            must(nst_model_path_stages(model, path, stages, MOST_STAGES, &err));
            const unsigned long before = atomic_load(&allocations);
            must(nst_session_select_stages(session, stages, view.stages, &err));
            counted[1] += warm ? 0 : atomic_load(&allocations) - before;
            must(nst_session_run(session, &err));
        }
    }
    printf("select %lu select_stages %lu run %lu\n", counted[0], counted[1], counted[2]);
    nst_session_destroy(session);
    must(nst_model_close(model, &err));
    return 0;
}
