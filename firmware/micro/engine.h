/* The engine for small devices: runs the plans of a bundle that lies in memory-mapped flash, in place. C11, no heap, no
 * operating system; behind core/engine.h.
 *
 * The caller owns all memory. What an engine keeps about a bundle (its tables) lies in `state`, which is used in two
 * halves: a bundle is opened in one while the other still serves the bundle that is open. Activations of all paths lie
 * in one `arena`, which must hold what the neediest stage needs beside the slots that are alive then; it is the
 * same for one path and for all of them.
 *
 * Opening checks every plan, binds every constant and lays out every named path; selecting a path is then one
 * assignment. Weights are never copied.
 */
#ifndef NESTLING_MICRO_ENGINE_H
#define NESTLING_MICRO_ENGINE_H

#include <stdatomic.h>

#include "core/engine.h"
#include "micro/plan.h"

#define NST_MICRO_MAX_SLOTS 256u /* of a bundle */

typedef struct nst_micro_config {
    const uint8_t *flash; /* start of the mapped flash; offsets of bundles count from here */
    uint64_t flash_bytes;
    void *state;        /* aligned to 8; nst_micro_state_bytes says how much a bundle needs */
    size_t state_bytes; /* half of it for each of two bundles */
    void *arena;        /* aligned to 16 */
    size_t arena_bytes;
    nst_isa isa;                /* of the kernels; NST_ISA_ANY runs all plans */
    const char *const *targets; /* targets of bundles that run here, as "cortex-m55" */
    uint32_t target_count;
    const nst_hash_ops *hash;
    /* Whether a bundle may be trusted: null, or called after its manifest was checked and before anything else is. */
    int (*verify)(void *context, const nst_bundle *bundle, nst_error *err);
    /* Counts what `clock` says, from any start; null: the engine has no clock. */
    uint64_t (*counter)(void *context);
    /* Feed the watchdog: called in front of each operator of a run. Null: there is none. */
    void (*alive)(void *context);
    void *context;
} nst_micro_config;

struct nst_micro_model;

/* The engine; only this file's functions look inside. */
typedef struct nst_micro {
    nst_micro_config config;
    struct nst_micro_model *model; /* what is open, in one half of `state`, or null */
    uint64_t budget_bytes;
    atomic_bool cancelled;
    bool tracing;
} nst_micro;

/* Bytes of `state` that are enough to have any two bundles open that need no more than this one. `bundle` was opened.
 * Slots, stages, paths and their lists decide. */
size_t nst_micro_state_bytes(const nst_bundle *bundle);

/* Set up an engine with nothing open. The configuration is copied. NST_E_ARGUMENT: something is null or not aligned. */
int nst_micro_init(nst_micro *engine, const nst_micro_config *config, nst_error *err);

/* What core/engine.h asks for, with a `nst_micro *` as `self`; counts instructions. Beyond what stands there:
 *
 * open          NST_E_TARGET also for a plan of another core, NST_E_BUDGET for an arena that is too small (expected and
 *               actual bytes, and the stage that needs most), NST_E_LIMIT for `state` that is too small or too many
 *               slots; all errors name the stage. Every byte of the bundle is hashed.
 * select_stages at most one list at a time; the next call replaces it.
 * tensor        inputs keep their bytes until they are written again, whatever runs.
 * cancel        stops in front of the next operator; without a run in progress the next run is cancelled. Outputs are
 *               then unspecified.
 * memory        without a bundle, what there is for one.
 * set_budget    of the arena, since nothing else takes memory: NST_E_BUDGET where the open bundle needs more. */
extern const nst_engine_ops nst_micro_ops;

#endif
