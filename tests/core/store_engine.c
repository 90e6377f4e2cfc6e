#include "store_engine.h"

#include <string.h>

#include "hash_sodium.h"
#include "path.h"

static int open_bundle(void *self, uint64_t offset, uint64_t size, nst_error *err) {
    store_engine *engine = self;
    int code = nst_bundle_open(&engine->next, engine->flash->memory + offset, (size_t)size,
                               engine->index[1 - engine->used], engine->index_bytes,
                               &nst_hash_sodium, err);
    for (uint32_t i = 0; code == NST_OK && i < engine->next.count[NST_SECTIONS]; i++) {
        code = nst_bundle_check_section(&engine->next, i, &nst_hash_sodium, err);
    }
    if (code == NST_OK && (engine->next.info.target.bytes != 7 ||
                           memcmp(engine->next.info.target.data, "xnnpack", 7) != 0)) {
        code = nst_fail(err, NST_E_TARGET, NULL, NULL, 0, 0, "the bundle is for another target");
    }
    if (code == NST_OK) {
        engine->used = 1 - engine->used;
        engine->bundle = engine->next;
        engine->open = true;
    }
    return code;
}

static void close_bundle(void *self) {
    ((store_engine *)self)->open = false;
}

static const nst_bundle *bundle(void *self) {
    store_engine *engine = self;
    return engine->open ? &engine->bundle : NULL;
}

static int select_path(void *self, uint32_t path, nst_error *err) {
    store_engine *engine = self;
    nst_path_info info;
    (void)err;
    return nst_bundle_path(&engine->bundle, path, &info);
}

static int select_stages(void *self, const uint32_t *stages, uint32_t count, nst_error *err) {
    store_engine *engine = self;
    return nst_path_check(&engine->bundle, stages, count, NULL, err);
}

static int tensor(void *self, uint32_t slot, void **out_data, size_t *out_bytes, nst_error *err) {
    store_engine *engine = self;
    nst_slot_info info;
    if (nst_bundle_slot(&engine->bundle, slot, &info) != NST_OK || info.role == NST_INTERNAL ||
        info.bytes > sizeof engine->slot) {
        return nst_fail(err, NST_E_NOT_FOUND, NULL, NULL, 0, slot, "there is no such tensor");
    }
    *out_data = engine->slot;
    *out_bytes = (size_t)info.bytes;
    return NST_OK;
}

static int run(void *self, nst_run_report *out, nst_error *err) {
    (void)self;
    (void)out;
    return nst_fail(err, NST_E_ENGINE, NULL, NULL, 0, 0, "this device runs no models");
}

static int stage_report(void *self, uint32_t stage, nst_stage_report *out, nst_error *err) {
    store_engine *engine = self;
    *out = (nst_stage_report){0};
    return stage < engine->bundle.count[NST_STAGES]
               ? NST_OK
               : nst_fail(err, NST_E_NOT_FOUND, NULL, NULL, 0, stage, "there is no such stage");
}

static int memory(void *self, nst_engine_memory *out, nst_error *err) {
    (void)self;
    (void)err;
    *out = (nst_engine_memory){.arena_capacity = 4096};
    return NST_OK;
}

static int set_budget(void *self, uint64_t budget_bytes, nst_error *err) {
    (void)self;
    return nst_fail(err, NST_E_BUDGET, NULL, NULL, 0, budget_bytes, "there is nothing to budget");
}

static void set_trace(void *self, bool on) {
    (void)self;
    (void)on;
}

static void cancel(void *self) {
    (void)self;
}

const nst_engine_ops store_engine_ops = {
    .name = "store",
    .clock = NST_CLOCK_NS,
    .open = open_bundle,
    .close = close_bundle,
    .bundle = bundle,
    .select = select_path,
    .select_stages = select_stages,
    .tensor = tensor,
    .run = run,
    .stage_report = stage_report,
    .memory = memory,
    .set_budget = set_budget,
    .set_trace = set_trace,
    .cancel = cancel,
};
