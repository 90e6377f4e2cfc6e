/* nestling: run one trained model as many sub-networks, and move between them for free.
 *
 * This header is the manual. A minimal program (firmware/examples/run_path.c is a complete one):
 *
 *     nst_model *model = NULL;
 *     nst_session *session = NULL;
 *     nst_error err;
 *     if (nst_model_open_path("digits.nest", NULL, &model, &err) != NST_OK) {
 *         puts(err.message);
 *         return 1;
 *     }
 *     const uint32_t image = nst_model_find_slot(model, "image");
 *     nst_session_create(model, &session, &err);
 *     nst_session_select(session, nst_model_find_path(model, "tiny"), NST_MODE_DEFAULT, &err);
 *     nst_session_bind_input(session, image, pixels, sizeof pixels, &err);
 *     nst_session_run(session, &err);
 *     nst_tensor logits;
 *     nst_session_tensor(session, nst_model_find_slot(model, "logits"), &logits, &err);
 *     nst_session_select(session, nst_model_find_path(model, "full"), NST_MODE_DEFAULT, &err);
 *     nst_session_run(session, &err);
 *     nst_session_destroy(session);
 *     nst_model_close(model, &err);
 *
 * The nouns. A *bundle* is the file. A *model* is an opened bundle. A *stage* is a piece of the
 * model that always runs whole (the stem, one layer at one width, a head). A *path* is a list of
 * stages that computes an output from an input: one sub-network. A *slot* is a named tensor which
 * stages read and write. A *session* holds what one line of execution needs: the selected path, the
 * slots' buffers, the state. A *target* is what a stage's program was lowered for (the processor
 * through XNNPACK, an accelerator); a bundle may hold the same stage for several of them.
 *
 * Rules that hold for every function
 *
 *   errors     0 (NST_OK) or a negative `nst_code`; the record `err` says what and where. `err` may
 *              be null. No function prints, exits or throws. After an error everything that was
 *              opened is still open and what was selected is still selected, unless the function
 *              says otherwise.
 *   pointers   must not be null unless the text says "may be null"; null gives NST_E_ARGUMENT.
 *   ownership  what a function hands out belongs to the model or session and lives as long as it
 *              does, unless the text says otherwise; free nothing that you did not create.
 *   threads    an `nst_model` may be used by any number of threads at once. An `nst_session`
 *              belongs to one thread at a time, except nst_session_cancel, which any thread may
 *              call. Any number of sessions may run on one model; stages of one model execute one
 *              at a time (ExecuTorch's XNNPACK backend shares its weights and its workspace under
 *              one lock), so sessions interleave between stages rather than run side by side.
 *   units      bytes, nanoseconds and counts are in the names. Indices count from 0 in the bundle's
 *              order.
 *   texts      zero-terminated UTF-8, at most NST_MAX_NAME_BYTES bytes without the zero.
 */
#ifndef NESTLING_H
#define NESTLING_H

#include <stddef.h>
#include <stdint.h>

#include "core/bundle.h"    /* the strict reader, for tools; nst_dtype, nst_role */
#include "core/error.h"     /* nst_code, nst_error */
#include "core/path.h"      /* nst_path_check: whether a list of stages is legal, and why not */
#include "core/placement.h" /* nst_placement_search: which step of a path runs where */
#include "core/policy.h"    /* nst_policy: which path to run under a deadline */
#include "core/ration.h"    /* nst_ration: a limit for it, so that a battery lasts */
#include "core/signature.h" /* sizes of keys and signatures */
#include "core/targets.h"   /* targets of a bundle, stages that stand in for each other */

#if defined(NST_BUILDING) && defined(__GNUC__)
#define NST_API __attribute__((visibility("default")))
#else
#define NST_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Version --------------------------------------------------------------------------------- */

/* Raised when a struct or a function of this header changes in a way that old callers cannot
 * survive. */
#define NST_ABI_VERSION 2u

/* NST_ABI_VERSION of the library that is loaded: compare before anything else when it is loaded
 * at run time. */
NST_API uint32_t nst_abi_version(void);

/* Version of the library, such as "0.1.0". Static text. */
NST_API const char *nst_version(void);

/* sizeof of a struct of this header or of core/, by name ("nst_tensor", "nst_bundle"); 0 for an
 * unknown name. Bindings of other languages compare it with their own idea of the struct. */
NST_API size_t nst_struct_bytes(const char *name);

/* SHA-256 as this library computes it, for nst_bundle_open. Static. */
NST_API const nst_hash_ops *nst_platform_hash(void);

/* ---- Opening --------------------------------------------------------------------------------- */

typedef struct nst_model nst_model;

/* How XNNPACK shares its scratch memory (activations inside a stage). See
 * nst_model_options.workspace. */
typedef enum nst_workspace {
    NST_WORKSPACE_SHARED = 0,   /* one for the process, as large as the hungriest stage: default */
    NST_WORKSPACE_PER_STAGE = 1 /* one for each operator group: more memory, for experiments */
} nst_workspace;

/* One line for a log, without a line end: what runs in the place of what, and why. Called while
 * the library works, on whatever thread does; must not call the library. */
typedef void (*nst_log)(void *user, const char *line);

/* Fill with nst_model_options_default and change what you need. A null pointer to options means
 * the defaults. */
typedef struct nst_model_options {
    /* sizeof(nst_model_options), set by nst_model_options_default; a library of another age
     * checks it. */
    uint64_t struct_bytes;
    /* Memory that weights and loaded stages may take, see nst_memory.resident_bytes. 0: no limit
     * (default). */
    uint64_t budget_bytes;
    /* Threads that one run may use: 0 all processors (default), 1 the calling thread alone (no
     * thread is ever created), n that many. The pool of n threads belongs to the process: a
     * model that asks for another n > 1 than the one that stages are loaded with now is refused
     * with NST_E_STATE. */
    uint32_t threads;
    /* An nst_workspace. */
    uint32_t workspace;
    /* Not 0: read and check every section while opening. 0 (default): a section is checked once,
     * before its first byte is used. Either way no byte is used that was not checked. */
    uint8_t verify_all;
    /* Not 0 (default 1): stages share one packed copy of a weight. 0 gives each stage its own:
     * for measurements only. */
    uint8_t weight_cache;
    /* Not 0: keep the file's pages in memory after the weights were packed. 0 (default): give
     * them back to the system. */
    uint8_t keep_pages;
    uint8_t reserved[5]; /* zero */
    /* Targets of this device, best first, separated by commas: "qnn,xnnpack". Those of the bundle
     * that are not named are not used. Null (default): all of the bundle, its own first. Needed
     * only while the bundle is opened. */
    const char *targets;
    /* Told about every target that does not run here, and every stage that another one stands in
     * for. Null (default): nobody is told; nst_model_target and nst_model_fallback say the same. */
    nst_log log;
    void *log_user;
} nst_model_options;

/* Set every field to its default. */
NST_API void nst_model_options_default(nst_model_options *out);

/* Open a bundle: map it, check prefix, manifest and layout, prepare every named path. Loads no
 * stage.
 *
 * The file may be renamed, replaced by a rename or deleted while the model is open: the model keeps
 * the bytes that it opened. Cutting or overwriting the opened file in place is noticed (NST_E_IO,
 * NST_E_HASH) when a stage is loaded; stages that are loaded go on running, because they hold
 * copies of all they need, except constants over 64 KiB that no backend packs (an embedding table):
 * touching those after the file was cut raises SIGBUS. Writers of bundles replace by rename.
 *
 * The same file may be opened any number of times; weights are packed once per process as long as
 * both are open.
 *
 * Errors: NST_E_ARGUMENT (null, options of another library version), NST_E_IO (cannot open, map or
 * read), NST_E_FOREIGN, NST_E_VERSION, NST_E_TRUNCATED, NST_E_CORRUPT, NST_E_HASH, NST_E_LIMIT,
 * NST_E_PATH (the bundle is not a legal one), NST_E_TARGET (none of the bundle's targets runs here;
 * the message names them), NST_E_STATE (threads, see there), NST_E_NO_MEMORY. On error *out is null.
 */
NST_API int nst_model_open_path(const char *path, const nst_model_options *options, nst_model **out,
                                nst_error *err);

/* As above, for a bundle that lies inside a larger file: `offset` bytes from its start, `length`
 * bytes long (0: to the end of the file). The descriptor must allow reading; it is duplicated,
 * so the caller may close it at once. `offset` should be a multiple of 64 for full speed. */
NST_API int nst_model_open_fd(int fd, uint64_t offset, uint64_t length,
                              const nst_model_options *options, nst_model **out, nst_error *err);

/* As above, from memory. `data` is not copied and must stay readable and unchanged until
 * nst_model_close. */
NST_API int nst_model_open_memory(const void *data, size_t bytes, const nst_model_options *options,
                                  nst_model **out, nst_error *err);

/* Unload everything and free the model. NST_E_STATE: a session or a prefetch of it still exists
 * (destroy it, wait for it); nothing is closed then. A null model is NST_OK. */
NST_API int nst_model_close(nst_model *model, nst_error *err);

/* ---- What is inside -------------------------------------------------------------------------- */

/* The tables of the opened bundle, for everything that the getters below leave out (quality,
 * cost, notes, sections). Lives as long as the model. */
NST_API const nst_bundle *nst_model_bundle(const nst_model *model);

/* Whether the bundle was signed with the Ed25519 key `public_key` (NST_PUBLIC_KEY_BYTES bytes).
 * Opening does not look at signatures. NST_OK or NST_E_SIGNATURE. The signature covers the
 * manifest and through its hashes every section. */
NST_API int nst_model_check_signature(const nst_model *model, const uint8_t *public_key,
                                      nst_error *err);

/* The same for a bundle that was opened with the reader of core/bundle.h. */
NST_API int nst_bundle_check_signature(const nst_bundle *bundle, const uint8_t *public_key,
                                       nst_error *err);

/* Number of entries; 0 for a null model. */
NST_API uint32_t nst_model_path_count(const nst_model *model);
NST_API uint32_t nst_model_stage_count(const nst_model *model);
NST_API uint32_t nst_model_slot_count(const nst_model *model);
NST_API uint32_t nst_model_position_count(const nst_model *model);

/* Index of the entry with that name, or NST_NONE (also for null). */
NST_API uint32_t nst_model_find_path(const nst_model *model, const char *name);
NST_API uint32_t nst_model_find_stage(const nst_model *model, const char *name);
NST_API uint32_t nst_model_find_slot(const nst_model *model, const char *name);

/* A named path. Paths stand in the bundle from small to large. */
typedef struct nst_path_view {
    const char *name;
    uint32_t stages; /* length of the chain */
    uint32_t fused;  /* the stage that computes the whole path, or NST_NONE */
    uint64_t parameters;
    uint64_t macs;         /* multiply-accumulates of one run */
    uint64_t weight_bytes; /* of its weights in the file */
    /* What selecting it in NST_MODE_DEFAULT would have to load now; 0: fully resident. */
    uint64_t missing_bytes;
} nst_path_view;

/* NST_E_NOT_FOUND: no such path. */
NST_API int nst_model_path(nst_model *model, uint32_t path, nst_path_view *out, nst_error *err);

/* Copy the stage indices of a path's chain. `capacity`: entries at `out_stages`; at least
 * nst_path_view.stages, otherwise NST_E_LIMIT with the number wanted in err->expected. */
NST_API int nst_model_path_stages(nst_model *model, uint32_t path, uint32_t *out_stages,
                                  uint32_t capacity, nst_error *err);

/* Multiply-accumulates, position and figures of a stage that do not change. */
typedef struct nst_stage_view {
    const char *name;
    uint32_t first; /* positions first..last of the chain, both included */
    uint32_t last;
    uint32_t level;    /* nesting level */
    uint32_t bits;     /* of its weights */
    uint32_t target;   /* what it runs on: nst_model_target */
    uint32_t reserved; /* zero */
    uint64_t macs;
    uint64_t arena_bytes;  /* planned activation memory, shared by all stages of the model */
    uint64_t weight_bytes; /* of all constants that it uses, shared ones included */
} nst_stage_view;

NST_API int nst_model_stage(nst_model *model, uint32_t stage, nst_stage_view *out, nst_error *err);

/* A slot and, from nst_session_tensor, the memory behind it. */
typedef struct nst_tensor {
    const char *name;
    void *data; /* null from nst_model_slot */
    size_t bytes;
    uint32_t dtype; /* an nst_dtype */
    uint32_t role;  /* an nst_role */
    uint32_t rank;
    uint32_t shape[NST_MAX_DIMS];
} nst_tensor;

NST_API int nst_model_slot(nst_model *model, uint32_t slot, nst_tensor *out, nst_error *err);

/* ---- Targets --------------------------------------------------------------------------------- */

/* A bundle may hold stages for several targets; "block1.w2@qnn" does what "block1.w2" does, on
 * another target. A named path takes each of its stages on the first target, in the order of
 * nst_model_options.targets, that is here; a list of the caller's own is taken as it stands. A stage
 * whose target is not here, or that ExecuTorch refuses when it is loaded, is replaced by the one on
 * the next target. What was replaced is remembered, and told to nst_model_options.log. */

/* A target of the bundle; 0 is the bundle's own. */
typedef struct nst_target_view {
    const char *name;
    const char *reason; /* why it does not run here; "" where it does */
    uint32_t runs;      /* 1 or 0 */
    uint32_t stages;    /* of the bundle, for it */
} nst_target_view;

NST_API uint32_t nst_model_target_count(const nst_model *model);
NST_API int nst_model_target(nst_model *model, uint32_t target, nst_target_view *out,
                             nst_error *err);

/* The stage that does on `target` what `stage` does (itself where that is its own); NST_NONE: there
 * is none. Whether the target is here does not matter. */
NST_API uint32_t nst_model_stand_in(nst_model *model, uint32_t stage, uint32_t target);

/* A stage that was asked for, and the one that runs in its place. */
typedef struct nst_fallback {
    uint32_t stage;
    uint32_t replacement;
    const char *reason;
} nst_fallback;

/* What was replaced since the bundle was opened, in the order in which it happened. */
NST_API uint32_t nst_model_fallback_count(nst_model *model);
NST_API int nst_model_fallback(nst_model *model, uint32_t index, nst_fallback *out, nst_error *err);

/* What going on on another target costs beside the stages. What a backend copies on each call is
 * in its stages' times already. */
typedef struct nst_transfer {
    double switch_us;   /* of each change of the target */
    double us_per_byte; /* of the slots that are alive across it */
} nst_transfer;

/* Find where each stage of a path's chain runs best: smallest sum of the shortest times that stages
 * took (nst_stage_stats.min_ns) and of the transfers between them. Targets on which a stage was
 * never run are left out, so run the path on each one first: nst_session_select_stages with
 * nst_model_stand_in. `transfer` may be null: free. `out_stages`: the list to select, as long as the
 * chain; `out_us` (may be null): the sum. NST_E_STATE: a stage was not run at all; NST_E_LIMIT as
 * nst_model_path_stages. */
NST_API int nst_model_place(nst_model *model, uint32_t path, const nst_transfer *transfer,
                            uint32_t *out_stages, uint32_t capacity, double *out_us,
                            nst_error *err);

/* ---- Memory ---------------------------------------------------------------------------------- */

/* What counts against the budget: the bytes of every constant that a loaded stage uses, each
 * counted once however many stages share it, plus what each loaded stage needs of its own:
 * ExecuTorch's and XNNPACK's records of it, estimated as eight bytes for each byte of its
 * program (right within a third on the models that were measured). Not counted: the library (a
 * few MB), buffers of sessions, activation memory. */
typedef struct nst_memory {
    uint64_t resident_bytes; /* constants + stages */
    uint64_t constant_bytes; /* constants of loaded stages, once each */
    uint64_t stage_bytes;    /* records of loaded stages, estimated */
    uint64_t peak_bytes;     /* highest resident_bytes so far */
    uint64_t budget_bytes;   /* 0: no limit */
    uint64_t arena_bytes;    /* activation memory planned by ExecuTorch, one for all stages */
    uint32_t stages_resident;
    uint32_t stages_pinned; /* selected by a session: cannot be evicted */
    uint64_t loads;         /* stages loaded so far */
    uint64_t evictions;     /* stages evicted so far, by the budget or by nst_model_evict_* */
} nst_memory;

NST_API int nst_model_memory(nst_model *model, nst_memory *out, nst_error *err);

/* Change the budget; 0 lifts it. Stages that no session has selected are evicted, least recently
 * used first, until it holds. NST_E_BUDGET: what is selected alone is larger; the old budget
 * stays and nothing was evicted. */
NST_API int nst_model_set_budget(nst_model *model, uint64_t budget_bytes, nst_error *err);

/* Load all stages of a path into memory and wait for it. The stages are not pinned: a tight
 * budget may evict them again. `mode` as in nst_session_select. Errors as nst_session_select. */
NST_API int nst_model_load(nst_model *model, uint32_t path, uint32_t mode, nst_error *err);

/* Unload a stage. NST_OK when it was not loaded. NST_E_STATE: a session has it selected. */
NST_API int nst_model_evict_stage(nst_model *model, uint32_t stage, nst_error *err);

/* Unload every stage that no session has selected; *out_bytes (may be null) is what became free. */
NST_API int nst_model_evict_unused(nst_model *model, uint64_t *out_bytes, nst_error *err);

/* Figures of a stage, counted since the bundle was opened or nst_model_reset_stats. */
typedef struct nst_stage_stats {
    uint64_t calls;
    uint64_t total_ns; /* of all calls, waiting for other sessions not included */
    uint64_t min_ns;   /* 0 before the first call */
    uint64_t last_ns;
    uint64_t loads;
    uint64_t load_ns;        /* of the last load: packing included, checking of hashes not */
    uint64_t resident_bytes; /* 0 when not loaded; its constants in full, shared ones included */
    uint32_t resident;       /* 1 when loaded */
    uint32_t pins;           /* sessions that have it selected, and loads in progress */
} nst_stage_stats;

NST_API int nst_model_stage_stats(nst_model *model, uint32_t stage, nst_stage_stats *out,
                                  nst_error *err);

/* Zero calls, total_ns, min_ns and last_ns of every stage. */
NST_API int nst_model_reset_stats(nst_model *model, nst_error *err);

/* ---- Prefetch -------------------------------------------------------------------------------- */

typedef struct nst_prefetch nst_prefetch;

/* How far a prefetch is. Called on the prefetch's own thread: once before the first stage is
 * loaded and after each one; must not call functions on the prefetch itself. Return 0 to go on,
 * anything else to cancel. */
typedef int (*nst_progress)(void *user, uint64_t loaded_bytes, uint64_t total_bytes,
                            uint32_t stages_left);

/* Load a path in a background thread, so that a later select finds it resident. `progress` may
 * be null. Runs that go on meanwhile wait, at most, for one operator to be packed at a time. The
 * stages stay pinned until the prefetch ends. NST_E_NOT_FOUND, NST_E_PATH (mode),
 * NST_E_NO_MEMORY (no thread). *out must be given to nst_prefetch_wait. */
NST_API int nst_prefetch_start(nst_model *model, uint32_t path, uint32_t mode,
                               nst_progress progress, void *user, nst_prefetch **out,
                               nst_error *err);

/* Ask it to stop after the stage that is being loaded. From any thread, any number of times,
 * before nst_prefetch_wait returns. */
NST_API void nst_prefetch_cancel(nst_prefetch *prefetch);

/* Not 0 when nst_prefetch_wait would not block. */
NST_API int nst_prefetch_done(const nst_prefetch *prefetch);

/* Wait for the end, free the handle and return the result: as nst_model_load, or
 * NST_E_CANCELLED; what was loaded before a cancel or an error stays loaded. Exactly one call
 * for each handle. */
NST_API int nst_prefetch_wait(nst_prefetch *prefetch, nst_error *err);

/* ---- Sessions -------------------------------------------------------------------------------- */

typedef struct nst_session nst_session;

/* How a named path is run. */
typedef enum nst_mode {
    NST_MODE_DEFAULT = 0, /* fused when the path has a fused stage, else the chain */
    NST_MODE_FUSED =
        1, /* the one stage that computes the whole path; NST_E_PATH when there is none */
    NST_MODE_CHAIN = 2 /* stage by stage; every stage shares its weights with every other path */
} nst_mode;

/* Create a session: allocates the buffers of all slots and everything that later switches need.
 * Nothing is selected yet. NST_E_NO_MEMORY. */
NST_API int nst_session_create(nst_model *model, nst_session **out, nst_error *err);

/* Release the session's pins and memory. Null is allowed. Must not be called while it runs. */
NST_API void nst_session_destroy(nst_session *session);

/* Select a named path. When its stages are resident this is a switch: it allocates nothing,
 * loads nothing and takes well under a microsecond for each stage. Otherwise it loads what is
 * missing first, evicting unselected stages if a budget asks for it. Bound inputs and outputs
 * and the content of state slots survive.
 *
 * NST_E_NOT_FOUND (no such path), NST_E_PATH (no fused stage), NST_E_BUDGET (err->expected -
 * err->actual bytes are missing), NST_E_HASH or NST_E_CORRUPT (a section is damaged), NST_E_IO
 * (the file was cut while open), NST_E_ENGINE (ExecuTorch refuses a stage that nothing stands in
 * for; the message has its reason), NST_E_TARGET (a stage's target is not here, and no other
 * stands in for it). The previous selection stays in every case; if it had to make room and cannot be
 * loaded again, nothing is selected and the message says so. */
NST_API int nst_session_select(nst_session *session, uint32_t path, uint32_t mode, nst_error *err);

/* Select any legal list of stages: mix and match. Same behaviour and errors; NST_E_PATH with the
 * reason, and the stage in err->stage, when the list is not legal: spans must rise without
 * overlap, every required position must be covered, every slot that a stage reads must be an
 * input, a state or written by an earlier stage, and an output must be written. */
NST_API int nst_session_select_stages(nst_session *session, const uint32_t *stages, uint32_t count,
                                      nst_error *err);

/* Copy what a run executes, in order: stages that stand in for others under their own numbers. None
 * when nothing is selected. `capacity`: entries at `out_stages`; nst_model_position_count is always
 * enough; otherwise NST_E_LIMIT. */
NST_API int nst_session_stages(const nst_session *session, uint32_t *out_stages, uint32_t capacity,
                               uint32_t *out_count, nst_error *err);

/* Let a slot of role "input" read the caller's memory. No copy: the memory must stay readable
 * and keep its content during runs, until another binding, and `bytes` must be exactly the
 * slot's. Any alignment works, 64 is fastest. XNNPACK's kernels may read, and ignore, up to 16
 * bytes behind the end: with memory that ends exactly at an unmapped page (a mapped file of full
 * pages) use nst_session_tensor's buffer instead. Null `data` goes back to the session's own
 * buffer. NST_E_NOT_FOUND, NST_E_ARGUMENT (not an input slot; wrong number of bytes, see
 * err->expected). */
NST_API int nst_session_bind_input(nst_session *session, uint32_t slot, const void *data,
                                   size_t bytes, nst_error *err);

/* Let a slot of role "output" be written straight into the caller's memory. Rules as for inputs;
 * the memory must be aligned to 16 bytes and must not overlap any other bound memory. Null
 * `data` goes back to the session's own buffer. */
NST_API int nst_session_bind_output(nst_session *session, uint32_t slot, void *data, size_t bytes,
                                    nst_error *err);

/* The slot's memory in this session: the bound one, else the session's own (zeros at first).
 * Inputs may be written there before a run; outputs and state are read there after a run, and
 * hold what the last run left: an output that the selected path does not write keeps its old
 * content. The address of a state slot may change with each run; other addresses change only by
 * binding. NST_E_NOT_FOUND. NST_E_ARGUMENT: an internal slot has no address between runs. */
NST_API int nst_session_tensor(nst_session *session, uint32_t slot, nst_tensor *out,
                               nst_error *err);

/* Run the selected path once, in the calling thread (and the pool's). No allocation in a steady
 * state. NST_E_STATE (nothing selected), NST_E_CANCELLED, NST_E_ENGINE (ExecuTorch failed; the
 * session stays usable). After an error outputs are undefined; a state slot that more than one
 * stage of the path writes is undefined as well, other state is as before the run. */
NST_API int nst_session_run(nst_session *session, nst_error *err);

/* Cancel the run in progress at the next border between two stages or, when none is in progress,
 * the next run before its first stage. From any thread; may be called by a signal handler. One
 * call cancels at most one run. */
NST_API void nst_session_cancel(nst_session *session);

/* Fill all state slots with zeros; caches that grow are empty then. */
NST_API int nst_session_reset_state(nst_session *session, nst_error *err);

/* What is selected. `stages` is the number of stages that a run executes (1 when fused, 0 when
 * nothing is selected); `path` is NST_NONE for a list of the caller's own. */
typedef struct nst_selection {
    uint32_t path;
    uint32_t mode; /* NST_MODE_FUSED or NST_MODE_CHAIN */
    uint32_t stages;
    uint32_t reserved;    /* zero */
    uint64_t runs;        /* finished runs of this session */
    uint64_t last_run_ns; /* wall time of the last finished run */
} nst_selection;

NST_API int nst_session_selection(const nst_session *session, nst_selection *out, nst_error *err);

/* ---- State that grows: caches of keys and values --------------------------------------------- */

/* Some state slots grow by rows, one for each token: stages read those before the session's
 * position in place and write the next ones behind them, nothing is copied. A path takes one token
 * or a chunk of them, see the shapes of its inputs; a run moves the position by what it took. Most
 * callers want nst_decoder (nestling_decoder.h), which knows which path takes what. */
typedef struct nst_growth {
    uint32_t position; /* tokens before the next run's */
    uint32_t limit;    /* rows of each cache; 0: the bundle has no growing state */
    uint32_t tokens;   /* that a run of the selected path takes at most; 0: none, or not selected */
    uint32_t reserved; /* zero */
} nst_growth;

NST_API int nst_session_growth(const nst_session *session, nst_growth *out, nst_error *err);

/* As nst_session_run for the first `tokens` of a chunk; what the path's inputs hold behind them does
 * not matter. nst_session_run takes the whole chunk. Errors as there, and NST_E_LIMIT: the caches
 * are full; NST_E_STATE: the path reads rows that no run has written (a layer that was left out). */
NST_API int nst_session_run_tokens(nst_session *session, uint32_t tokens, nst_error *err);

/* Forget the tokens from `position` on. More than there are: nothing happens. */
NST_API int nst_session_rewind(nst_session *session, uint32_t position, nst_error *err);

#ifdef __cplusplus
}
#endif

#include "nestling_decoder.h" /* generating: conversations whose every token any path may make */
#include "nestling_experts.h" /* mixture-of-experts layers whose weights come and go */
#include "nestling_pool.h"    /* many conversations: swapped out and in, beginnings kept once */

#endif
