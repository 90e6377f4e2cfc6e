#include "micro/engine.h"

#include "core/path.h"
#include "core/sentence.h"
#include "micro/model.h"

static int not_open(nst_error *err) {
    return nst_fail_in(err, NST_E_STATE, NULL, NST_TEXT("no bundle is open"));
}

/* Clear without libc: freestanding compilers may not have memset at hand. */
static void clear(uint8_t *data, uint64_t bytes) {
    for (uint64_t i = 0; i < bytes; i++) {
        data[i] = 0;
    }
}

size_t nst_micro_state_bytes(const nst_bundle *bundle) {
    return (size_t)(2 * nst_micro_model_bytes(bundle, nst_bundle_index_bytes(&bundle->prefix)));
}

int nst_micro_init(nst_micro *engine, const nst_micro_config *config, nst_error *err) {
    if (engine == NULL || config == NULL || config->flash == NULL || config->state == NULL ||
        config->arena == NULL || config->hash == NULL || config->targets == NULL ||
        (uintptr_t)config->flash % NST_PLAN_ALIGNMENT != 0 ||
        (uintptr_t)config->arena % NST_PLAN_ALIGNMENT != 0 || (uintptr_t)config->state % 8 != 0) {
        return nst_fail_in(err, NST_E_ARGUMENT, NULL,
                           NST_TEXT("memory of the engine is missing or not aligned"));
    }
    *engine = (nst_micro){.config = *config};
    atomic_init(&engine->cancelled, false);
    return NST_OK;
}

/* The half of the state memory that no open bundle lies in. */
static uint8_t *free_half(const nst_micro *engine, size_t *out_bytes) {
    uint8_t *first = engine->config.state;
    *out_bytes = engine->config.state_bytes / 2 / 8 * 8;
    return (uint8_t *)engine->model == first ? first + *out_bytes : first;
}

static int open_bundle(void *self, uint64_t offset, uint64_t size, nst_error *err) {
    nst_micro *engine = self;
    const nst_micro_config *config = &engine->config;
    if (offset % NST_PLAN_ALIGNMENT != 0 || offset > config->flash_bytes ||
        size > config->flash_bytes - offset) {
        return nst_fail(err, NST_E_ARGUMENT, NULL, NULL, config->flash_bytes, offset,
                        NST_TEXT("the bundle does not lie in the flash"));
    }
    size_t bytes;
    uint8_t *memory = free_half(engine, &bytes);
    nst_micro_model *model = NULL;
    int code = nst_micro_model_build(&model, config, config->flash + offset, (size_t)size, memory,
                                     bytes, err);
    if (code != NST_OK) {
        return code;
    }
    if (engine->budget_bytes != 0 && engine->budget_bytes < model->arena_bytes) {
        return nst_fail(err, NST_E_BUDGET, NULL, NULL, model->arena_bytes, engine->budget_bytes,
                        NST_TEXT("the memory budget is too small for the bundle"));
    }
    model->selected = &model->paths[0];
    clear(config->arena, model->arena_bytes);
    engine->model = model;
    return NST_OK;
}

static void close_bundle(void *self) {
    nst_micro *engine = self;
    engine->model = NULL;
}

static const nst_bundle *get_bundle(void *self) {
    nst_micro *engine = self;
    return engine->model == NULL ? NULL : &engine->model->bundle;
}

static int select_path(void *self, uint32_t path, nst_error *err) {
    nst_micro *engine = self;
    nst_micro_model *model = engine->model;
    if (model == NULL) {
        return not_open(err);
    }
    if (path >= model->bundle.count[NST_PATHS]) {
        return nst_fail(err, NST_E_PATH, "paths", NULL, model->bundle.count[NST_PATHS], path,
                        NST_TEXT("the bundle has no path of that number"));
    }
    model->selected = &model->paths[path];
    return NST_OK;
}

static int select_stages(void *self, const uint32_t *stages, uint32_t count, nst_error *err) {
    nst_micro *engine = self;
    nst_micro_model *model = engine->model;
    if (model == NULL) {
        return not_open(err);
    }
    int code = nst_path_check(&model->bundle, stages, count, NULL, err);
    if (code != NST_OK) {
        return code;
    }
    nst_micro_path_lay_out(model, engine->config.arena, stages, count, &model->custom,
                           model->custom_slots);
    model->selected = &model->custom;
    return NST_OK;
}

static int get_tensor(void *self, uint32_t slot, void **out_data, size_t *out_bytes,
                      nst_error *err) {
    nst_micro *engine = self;
    if (engine->model == NULL) {
        return not_open(err);
    }
    if (slot >= engine->model->bundle.count[NST_SLOTS]) {
        return nst_fail(err, NST_E_NOT_FOUND, "slots", NULL, engine->model->bundle.count[NST_SLOTS],
                        slot, NST_TEXT("the bundle has no slot of that number"));
    }
    const nst_micro_slot *found = &engine->model->slots[slot];
    if (found->role == NST_INTERNAL) {
        return nst_fail(err, NST_E_ARGUMENT, "slots", NULL, 0, slot,
                        NST_TEXT("the slot is internal, its memory serves other slots too"));
    }
    *out_data = (uint8_t *)engine->config.arena + found->offset[0];
    *out_bytes = found->bytes;
    return NST_OK;
}

static uint64_t count(const nst_micro *engine) {
    return engine->config.counter == NULL ? 0 : engine->config.counter(engine->config.context);
}

/* Run one stage; false when it was cancelled. */
static bool run_step(nst_micro *engine, const nst_micro_step *step) {
    nst_micro_stage *stage = step->stage;
    const nst_plan *plan = &stage->plan;
    const nst_plan_memory memory = {
        .inputs = step->slots,
        .outputs = step->slots + plan->input_count,
        .constants = stage->constants,
        .arena = (uint8_t *)engine->config.arena + stage->arena,
    };
    const uint64_t start = engine->tracing ? count(engine) : 0;
    for (uint32_t i = 0; i < plan->operator_count; i++) {
        if (atomic_load_explicit(&engine->cancelled, memory_order_relaxed)) {
            return false;
        }
        if (engine->config.alive != NULL) {
            engine->config.alive(engine->config.context);
        }
        nst_plan_run_operator(plan, i, &memory);
    }
    stage->calls++;
    stage->total += engine->tracing ? count(engine) - start : 0;
    return true;
}

static int run(void *self, nst_run_report *out, nst_error *err) {
    nst_micro *engine = self;
    if (engine->model == NULL) {
        return not_open(err);
    }
    const nst_micro_path *path = engine->model->selected;
    const uint64_t start = count(engine);
    for (uint32_t i = 0; i < path->count; i++) {
        if (!run_step(engine, &path->steps[i])) {
            atomic_store(&engine->cancelled, false);
            return nst_fail(err, NST_E_CANCELLED, NULL, NULL, path->count, i,
                            NST_TEXT("the run was cancelled"));
        }
    }
    *out = (nst_run_report){.duration = count(engine) - start, .stages = path->count};
    return NST_OK;
}

static int stage_report(void *self, uint32_t stage, nst_stage_report *out, nst_error *err) {
    nst_micro *engine = self;
    if (engine->model == NULL) {
        return not_open(err);
    }
    if (stage >= engine->model->bundle.count[NST_STAGES]) {
        return nst_fail(err, NST_E_NOT_FOUND, "stages", NULL,
                        engine->model->bundle.count[NST_STAGES], stage,
                        NST_TEXT("the bundle has no stage of that number"));
    }
    const nst_micro_stage *found = &engine->model->stages[stage];
    *out = (nst_stage_report){
        .calls = found->calls, .total = found->total, .resident_bytes = found->weight_bytes};
    return NST_OK;
}

static int memory(void *self, nst_engine_memory *out, nst_error *err) {
    nst_micro *engine = self;
    const nst_micro_model *model = engine->model;
    (void)err;
    *out = (nst_engine_memory){
        .arena_capacity = engine->config.arena_bytes,
        .budget_bytes = engine->budget_bytes,
    };
    if (model != NULL) {
        out->arena_bytes = model->arena_bytes;
        out->resident_bytes = model->weight_bytes;
        out->stages_resident = model->bundle.count[NST_STAGES];
    }
    return NST_OK;
}

static int set_budget(void *self, uint64_t budget_bytes, nst_error *err) {
    nst_micro *engine = self;
    const uint64_t need = engine->model == NULL ? 0 : engine->model->arena_bytes;
    if (budget_bytes != 0 && budget_bytes < need) {
        return nst_fail(err, NST_E_BUDGET, NULL, NULL, need, budget_bytes,
                        NST_TEXT("the open bundle needs more memory for activations"));
    }
    engine->budget_bytes = budget_bytes;
    return NST_OK;
}

static void set_trace(void *self, bool on) {
    nst_micro *engine = self;
    engine->tracing = on;
}

static void cancel(void *self) {
    nst_micro *engine = self;
    atomic_store(&engine->cancelled, true);
}

const nst_engine_ops nst_micro_ops = {
    .name = "micro",
    .clock = NST_CLOCK_INSTRUCTIONS,
    .open = open_bundle,
    .close = close_bundle,
    .bundle = get_bundle,
    .select = select_path,
    .select_stages = select_stages,
    .tensor = get_tensor,
    .run = run,
    .stage_report = stage_report,
    .memory = memory,
    .set_budget = set_budget,
    .set_trace = set_trace,
    .cancel = cancel,
};
