/* What the protocol server (smp.h) asks of an engine. Both engines implement it: the ExecuTorch one in
 * boards/linux, the small-device one in micro/, and the simulator's costs in place of an engine.
 *
 * One engine has at most one bundle open, and runs in the thread that serves the protocol. The server answers
 * everything that stands in a bundle by itself, from `bundle`.
 */
#ifndef NESTLING_CORE_ENGINE_H
#define NESTLING_CORE_ENGINE_H

#include "bundle.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What `duration` of a run counts. */
typedef enum nst_clock { NST_CLOCK_NS = 0, NST_CLOCK_INSTRUCTIONS = 1 } nst_clock;

typedef struct nst_run_report {
    uint64_t duration; /* of the run, in units of the engine's clock; 0: it has none */
    uint32_t stages;   /* executed */
} nst_run_report;

/* A stage since the bundle was opened. */
typedef struct nst_stage_report {
    uint64_t calls;
    uint64_t total; /* in units of the engine's clock; only while tracing is on */
    uint64_t
        resident_bytes; /* of its weights, shared ones included; 0: it would have to be loaded */
} nst_stage_report;

typedef struct nst_engine_memory {
    uint64_t arena_bytes;    /* activation memory that the open bundle needs, all paths */
    uint64_t arena_capacity; /* that there is; 0: no limit */
    uint64_t
        resident_bytes; /* of weights that are in memory (or in place in flash), each byte once */
    uint64_t budget_bytes; /* 0: no limit */
    uint32_t stages_resident;
    uint32_t loads;     /* stages loaded since the bundle was opened */
    uint32_t evictions; /* stages evicted since then */
} nst_engine_memory;

/* Functions return NST_OK or a code of error.h with `err` filled; nothing changes on an error. `self` is the
 * engine's own. No pointer may be null. */
typedef struct nst_engine_ops {
    const char *name; /* "executorch", "micro", "sim" */
    nst_clock clock;
    /* Open the bundle in `offset`..`offset + size` of the device's flash, checking everything (hashes of all
     * sections, signature if the device has a key, every plan or program that a path needs) before the one
     * that is open is let go. Afterwards the smallest path is selected. */
    int (*open)(void *self, uint64_t offset, uint64_t size, nst_error *err);
    void (*close)(void *self);
    /* The open bundle, or null. Valid until the next open or close. */
    const nst_bundle *(*bundle)(void *self);
    int (*select)(void *self, uint32_t path, nst_error *err);
    int (*select_stages)(void *self, const uint32_t *stages, uint32_t count, nst_error *err);
    /* Memory of a slot of role input, output or state in the next (last) run. */
    int (*tensor)(void *self, uint32_t slot, void **out_data, size_t *out_bytes, nst_error *err);
    int (*run)(void *self, nst_run_report *out, nst_error *err);
    int (*stage_report)(void *self, uint32_t stage, nst_stage_report *out, nst_error *err);
    int (*memory)(void *self, nst_engine_memory *out, nst_error *err);
    int (*set_budget)(void *self, uint64_t budget_bytes, nst_error *err);
    void (*set_trace)(void *self, bool on);
    /* Stop the run in progress at the next border between operators (micro) or stages. May come from another
     * thread or an interrupt. */
    void (*cancel)(void *self);
} nst_engine_ops;

typedef struct nst_engine {
    const nst_engine_ops *ops;
    void *self;
} nst_engine;

#ifdef __cplusplus
}
#endif
#endif
