/* Group 64: what the device is, what is open, and how it fares. smp_run.c and smp_push.c hold the
 * commands that change something. */
#include "sentence.h"
#include "smp_call.h"

/* What a message spends on everything but its payload: header, keys, heads of the values. */
enum { OVERHEAD_BYTES = 64 };

static const char *clock_name(const nst_smp_server *server) {
    return server->config.engine.ops->clock == NST_CLOCK_NS ? "ns" : "instructions";
}

static bool next_target(void *self, uint32_t i, nst_smp_encoder *encoder) {
    const nst_smp_config *config = self;
    return i < config->target_count && nst_smp_put_text(encoder, nst_text_of(config->targets[i]));
}

static int info(nst_smp_call *call) {
    nst_smp_config *config = &call->server->config;
    const nst_engine *engine = &config->engine;
    const nst_bundle *bundle = engine->ops->bundle(engine->self);
    nst_engine_memory memory = {0};
    /* An engine may know nothing of its memory while no bundle is open. */
    (void)engine->ops->memory(engine->self, &memory, NULL);
    nst_smp_info_response response = {
        .device = nst_text_of(config->device),
        .engine = nst_text_of(engine->ops->name),
        .version = nst_text_of(config->version),
        .targets = {next_target, config},
        .clock = nst_text_of(clock_name(call->server)),
        .slot_bytes = config->store->slot_bytes,
        .arena_bytes = memory.arena_capacity,
        .chunk_bytes = config->buffer_bytes - OVERHEAD_BYTES,
        .has_bundle = bundle != NULL,
        .has_target = bundle != NULL,
        .has_hash = bundle != NULL,
    };
    if (bundle != NULL) {
        response.bundle = bundle->info.name;
        response.target = bundle->info.target;
        response.hash = (nst_smp_bytes){bundle->prefix.manifest_sha256, NST_HASH_BYTES};
    }
    return nst_smp_answer(call, info_response, &response);
}

/* A page of a table of the open bundle. */
typedef struct page {
    const nst_smp_server *server;
    const nst_bundle *bundle;
    uint32_t from;
} page;

static bool next_path(void *self, uint32_t i, nst_smp_encoder *encoder) {
    const page *at = self;
    const nst_policy *policy = &at->server->policy;
    nst_path_info path;
    uint64_t number = (uint64_t)at->from + i;
    if (number >= at->bundle->count[NST_PATHS] ||
        nst_bundle_path(at->bundle, (uint32_t)number, &path) != NST_OK) {
        return false;
    }
    bool known = at->server->has_policy && number < policy->paths && policy->costs[number].known;
    const nst_smp_path_entry entry = {.name = path.name,
                                      .macs = path.macs,
                                      .weight_bytes = path.weight_bytes,
                                      .stages = path.chain.count,
                                      .has_cost = known,
                                      .cost = known ? policy->costs[number].mean_us : 0.0};
    return nst_smp_put(encoder, &nst_smp_path_entry_message, &entry);
}

static int paths(nst_smp_call *call) {
    nst_smp_paths_request request;
    int code = nst_smp_take(call, paths_request, &request);
    const nst_bundle *bundle = code == NST_OK ? nst_smp_bundle(call) : NULL;
    if (bundle == NULL) {
        return call->err.code;
    }
    page at = {call->server, bundle, request.has_from ? request.from : 0};
    const nst_smp_paths_response response = {.total = bundle->count[NST_PATHS],
                                             .paths = {next_path, &at}};
    return nst_smp_answer(call, paths_response, &response);
}

typedef struct dimensions {
    const uint32_t *shape;
    uint32_t rank;
} dimensions;

static bool next_dimension(void *self, uint32_t i, nst_smp_encoder *encoder) {
    const dimensions *all = self;
    return i < all->rank && nst_smp_put_uint(encoder, all->shape[i]);
}

static bool next_slot(void *self, uint32_t i, nst_smp_encoder *encoder) {
    static const char *const roles[] = {"input", "output", "state", "internal"};
    static const char *const dtypes[] = {"f32", "f16", "i64", "i32", "u8", "i8", "bool"};
    const page *at = self;
    nst_slot_info slot;
    uint64_t number = (uint64_t)at->from + i;
    if (number >= at->bundle->count[NST_SLOTS] ||
        nst_bundle_slot(at->bundle, (uint32_t)number, &slot) != NST_OK) {
        return false;
    }
    dimensions shape = {slot.shape, slot.rank};
    const nst_smp_slot_entry entry = {.name = slot.name,
                                      .role = nst_text_of(roles[slot.role]),
                                      .dtype = nst_text_of(dtypes[slot.dtype]),
                                      .shape = {next_dimension, &shape}};
    return nst_smp_put(encoder, &nst_smp_slot_entry_message, &entry);
}

static int slots(nst_smp_call *call) {
    nst_smp_slots_request request;
    int code = nst_smp_take(call, slots_request, &request);
    const nst_bundle *bundle = code == NST_OK ? nst_smp_bundle(call) : NULL;
    if (bundle == NULL) {
        return call->err.code;
    }
    page at = {call->server, bundle, request.has_from ? request.from : 0};
    const nst_smp_slots_response response = {.total = bundle->count[NST_SLOTS],
                                             .slots = {next_slot, &at}};
    return nst_smp_answer(call, slots_response, &response);
}

static int residency(nst_smp_call *call) {
    const nst_engine *engine = &call->server->config.engine;
    nst_engine_memory memory = {0};
    int code = engine->ops->memory(engine->self, &memory, &call->err);
    if (code != NST_OK) {
        return code;
    }
    const nst_smp_residency_response response = {.arena = memory.arena_bytes,
                                                 .arena_capacity = memory.arena_capacity,
                                                 .resident = memory.resident_bytes,
                                                 .budget = memory.budget_bytes,
                                                 .stages = memory.stages_resident,
                                                 .loads = memory.loads,
                                                 .evictions = memory.evictions};
    return nst_smp_answer(call, residency_response, &response);
}

static int set_budget(nst_smp_call *call) {
    const nst_engine *engine = &call->server->config.engine;
    nst_smp_residency_write_request request;
    int code = nst_smp_take(call, residency_write_request, &request);
    if (code == NST_OK) {
        code = engine->ops->set_budget(engine->self, request.budget, &call->err);
    }
    return code == NST_OK ? residency(call) : code;
}

static int telemetry(nst_smp_call *call) {
    const nst_smp_config *config = &call->server->config;
    const nst_smp_counters *counters = &call->server->counters;
    nst_smp_sensors sensors = {0};
    if (config->platform->sensors != NULL) {
        config->platform->sensors(config->platform_self, &sensors);
    }
    const nst_smp_telemetry_response response = {
        .uptime_ms = config->platform->uptime_ms(config->platform_self),
        .runs = counters->runs,
        .switches = counters->switches,
        .errors = counters->errors,
        .cancels = counters->cancels,
        .frames = counters->frames,
        .bad_frames = counters->bad_frames,
        .flash_erases = config->store->flash->erases,
        .flash_programs = config->store->flash->programs,
        .has_temperature_c = sensors.has_temperature,
        .temperature_c = (double)sensors.temperature_c,
        .has_battery = sensors.has_battery,
        .battery = (double)sensors.battery,
    };
    return nst_smp_answer(call, telemetry_response, &response);
}

static bool next_trace(void *self, uint32_t i, nst_smp_encoder *encoder) {
    const page *at = self;
    const nst_engine *engine = &at->server->config.engine;
    nst_stage_report report = {0};
    uint64_t number = (uint64_t)at->from + i;
    if (number >= at->bundle->count[NST_STAGES] ||
        engine->ops->stage_report(engine->self, (uint32_t)number, &report, NULL) != NST_OK) {
        return false;
    }
    const nst_smp_trace_entry entry = {.stage = number,
                                       .calls = report.calls,
                                       .cost = report.total,
                                       .resident = report.resident_bytes};
    return nst_smp_put(encoder, &nst_smp_trace_entry_message, &entry);
}

static int trace(nst_smp_call *call) {
    nst_smp_trace_request request;
    int code = nst_smp_take(call, trace_request, &request);
    const nst_bundle *bundle = code == NST_OK ? nst_smp_bundle(call) : NULL;
    if (bundle == NULL) {
        return call->err.code;
    }
    page at = {call->server, bundle, request.has_from ? request.from : 0};
    const nst_smp_trace_response response = {.total = bundle->count[NST_STAGES],
                                             .stages = {next_trace, &at}};
    return nst_smp_answer(call, trace_response, &response);
}

static int set_trace(nst_smp_call *call) {
    const nst_engine *engine = &call->server->config.engine;
    nst_smp_trace_write_request request;
    int code = nst_smp_take(call, trace_write_request, &request);
    if (code != NST_OK) {
        return code;
    }
    engine->ops->set_trace(engine->self, request.on);
    const nst_smp_trace_write_response response = {.on = request.on};
    return nst_smp_answer(call, trace_write_response, &response);
}

static int fault(nst_smp_call *call) {
    const nst_smp_config *config = &call->server->config;
    nst_smp_fault_request request;
    int code = nst_smp_take(call, fault_request, &request);
    if (code != NST_OK) {
        return code;
    }
    if (!config->faults) {
        return nst_smp_refuse(call, NST_E_TARGET, NST_TEXT("this device cannot cut its own power"));
    }
    if (request.has_cut && request.cut > NST_CUT_AFTER) {
        return nst_smp_fail(call, NST_E_ARGUMENT, NST_CUT_AFTER, request.cut,
                            NST_TEXT("there is no such kind of power cut"));
    }
    nst_flash_cut_after(config->store->flash, request.operations,
                        request.has_cut ? (nst_flash_cut)request.cut : NST_CUT_BEFORE);
    return nst_smp_answer_empty(call);
}

static const nst_smp_command commands[] = {
    {NST_SMP_READ, 0, info},
    {NST_SMP_READ, 1, paths},
    {NST_SMP_WRITE, 2, nst_smp_select},
    {NST_SMP_WRITE, 3, nst_smp_run},
    {NST_SMP_READ, 4, nst_smp_tensor_read},
    {NST_SMP_WRITE, 4, nst_smp_tensor_write},
    {NST_SMP_READ, 5, slots},
    {NST_SMP_READ, 6, residency},
    {NST_SMP_WRITE, 6, set_budget},
    {NST_SMP_READ, 7, telemetry},
    {NST_SMP_READ, 8, trace},
    {NST_SMP_WRITE, 8, set_trace},
    {NST_SMP_WRITE, 9, nst_smp_choose},
    {NST_SMP_WRITE, 10, nst_smp_cancel},
    {NST_SMP_WRITE, 11, nst_smp_push_head},
    {NST_SMP_READ, 12, nst_smp_push_missing},
    {NST_SMP_WRITE, 13, nst_smp_push_data},
    {NST_SMP_WRITE, 14, nst_smp_push_commit},
    {NST_SMP_WRITE, 15, fault},
};
const nst_smp_group nst_smp_nest_group = {64, sizeof commands / sizeof commands[0], commands};
