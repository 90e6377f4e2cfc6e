/* Group 64: choosing a path and running it. */
#include <string.h>

#include "sentence.h"
#include "smp_call.h"

static uint64_t now(const nst_smp_server *server) {
    const nst_smp_config *config = &server->config;
    return config->platform->now != NULL ? config->platform->now(config->platform_self) : 0;
}

/* What a compiler makes of a cast needs a kilobyte of floating point in software on a small
 * processor. */
static double to_double(uint64_t value) {
    return (double)(uint32_t)(value >> 32) * 4294967296.0 + (double)(uint32_t)value;
}

static uint32_t loads(const nst_engine *engine) {
    nst_engine_memory memory = {0};
    return engine->ops->memory(engine->self, &memory, NULL) == NST_OK ? memory.loads : 0;
}

static int fail_path(nst_smp_call *call, uint64_t expected, uint64_t actual) {
    return nst_smp_fail(call, NST_E_PATH, expected, actual,
                        NST_TEXT("the bundle has no such path"));
}

/* Select a path of the bundle. `out_cost` is what the engine takes for it: not what it takes to find the
 * path's name and length in the manifest for the answer. */
static int select_path(nst_smp_call *call, const nst_bundle *bundle, uint32_t path,
                       uint64_t *out_cost) {
    nst_smp_server *server = call->server;
    const nst_engine *engine = &server->config.engine;
    nst_path_info is;
    if (nst_bundle_path(bundle, path, &is) != NST_OK) {
        return fail_path(call, bundle->count[NST_PATHS], path);
    }
    uint64_t begin = now(server);
    int code = engine->ops->select(engine->self, path, &call->err);
    *out_cost = now(server) - begin;
    if (code == NST_OK) {
        server->counters.switches += server->selected != path;
        server->selected = path;
        server->selected_stages = is.chain.count;
    }
    return code;
}

static int select_stages(nst_smp_call *call, const nst_smp_select_request *request,
                         uint64_t *out_cost) {
    nst_smp_server *server = call->server;
    const nst_engine *engine = &server->config.engine;
    uint64_t begin = now(server);
    int code = engine->ops->select_stages(engine->self, request->stages, request->stages_count,
                                          &call->err);
    *out_cost = now(server) - begin;
    if (code == NST_OK) {
        server->counters.switches++;
        server->selected = NST_NONE;
        server->selected_stages = request->stages_count;
    }
    return code;
}

int nst_smp_select(nst_smp_call *call) {
    const nst_engine *engine = &call->server->config.engine;
    nst_smp_select_request request;
    int code = nst_smp_take(call, select_request, &request);
    const nst_bundle *bundle = code == NST_OK ? nst_smp_bundle(call) : NULL;
    if (bundle == NULL) {
        return call->err.code;
    }
    if (request.has_path + request.has_name + request.has_stages != 1) {
        return nst_smp_refuse(call, NST_E_ARGUMENT,
                              NST_TEXT("exactly one of path, name and stages says what to select"));
    }
    uint32_t path = request.path;
    if (request.has_name) {
        path = nst_bundle_find(bundle, NST_PATHS, request.name.data, request.name.bytes);
    }
    uint32_t loads_before = loads(engine);
    uint64_t cost = 0;
    code = request.has_stages ? select_stages(call, &request, &cost)
                              : select_path(call, bundle, path, &cost);
    if (code != NST_OK) {
        return code;
    }
    const nst_smp_select_response response = {.path = call->server->selected,
                                              .stages = call->server->selected_stages,
                                              .cost = cost,
                                              .loads = loads(engine) - loads_before};
    return nst_smp_answer(call, select_response, &response);
}

int nst_smp_run(nst_smp_call *call) {
    nst_smp_server *server = call->server;
    const nst_engine *engine = &server->config.engine;
    nst_run_report report = {0};
    if (nst_smp_bundle(call) == NULL) {
        return call->err.code;
    }
    server->running = true;
    int code = engine->ops->run(engine->self, &report, &call->err);
    server->running = false;
    if (code != NST_OK) {
        return code;
    }
    server->counters.runs++;
    if (server->has_policy && server->selected != NST_NONE && report.duration > 0) {
        (void)nst_policy_record(&server->policy, server->selected, to_double(report.duration));
    }
    const nst_smp_run_response response = {
        .duration = report.duration, .stages = report.stages, .path = server->selected};
    return nst_smp_answer(call, run_response, &response);
}

/* Memory of a slot, from `off`. */
static int find_tensor(nst_smp_call *call, uint32_t slot, uint64_t off, uint8_t **out_data,
                       uint64_t *out_bytes) {
    const nst_engine *engine = &call->server->config.engine;
    void *data = NULL;
    size_t bytes = 0;
    if (nst_smp_bundle(call) == NULL) {
        return call->err.code;
    }
    int code = engine->ops->tensor(engine->self, slot, &data, &bytes, &call->err);
    if (code == NST_OK && off > bytes) {
        code = nst_smp_fail(call, NST_E_LIMIT, bytes, off,
                            NST_TEXT("the offset is behind the tensor's end"));
    }
    if (code == NST_OK) {
        *out_data = data;
        *out_bytes = bytes;
    }
    return code;
}

int nst_smp_tensor_read(nst_smp_call *call) {
    nst_smp_tensor_read_request request;
    uint8_t *data = NULL;
    uint64_t bytes = 0;
    int code = nst_smp_take(call, tensor_read_request, &request);
    if (code == NST_OK) {
        code = find_tensor(call, request.slot, request.off, &data, &bytes);
    }
    if (code != NST_OK) {
        return code;
    }
    uint64_t piece = bytes - request.off;
    uint64_t most = call->server->config.buffer_bytes - 64; /* as chunk_bytes of info */
    piece = piece < most ? piece : most;
    piece = request.has_len && request.len < piece ? request.len : piece;
    const nst_smp_tensor_read_response response = {
        .off = request.off, .len = bytes, .data = {data + request.off, (size_t)piece}};
    return nst_smp_answer(call, tensor_read_response, &response);
}

int nst_smp_tensor_write(nst_smp_call *call) {
    nst_smp_tensor_write_request request;
    uint8_t *data = NULL;
    uint64_t bytes = 0;
    int code = nst_smp_take(call, tensor_write_request, &request);
    if (code == NST_OK) {
        code = find_tensor(call, request.slot, request.off, &data, &bytes);
    }
    if (code == NST_OK && request.data.bytes > bytes - request.off) {
        code = nst_smp_fail(call, NST_E_LIMIT, bytes, request.off + request.data.bytes,
                            NST_TEXT("the bytes reach over the tensor's end"));
    }
    if (code != NST_OK) {
        return code;
    }
    if (request.data.bytes > 0) {
        memcpy(data + request.off, request.data.data, request.data.bytes);
    }
    const nst_smp_tensor_write_response response = {.off = request.off + request.data.bytes,
                                                    .len = bytes};
    return nst_smp_answer(call, tensor_write_response, &response);
}

int nst_smp_choose(nst_smp_call *call) {
    nst_smp_server *server = call->server;
    nst_smp_choose_request request;
    int code = nst_smp_take(call, choose_request, &request);
    const nst_bundle *bundle = code == NST_OK ? nst_smp_bundle(call) : NULL;
    if (bundle == NULL) {
        return call->err.code;
    }
    uint32_t before = server->selected;
    uint32_t path = nst_policy_choose(&server->policy, to_double(request.deadline));
    uint64_t cost = 0;
    code = path == before ? NST_OK : select_path(call, bundle, path, &cost);
    if (code != NST_OK) {
        return code;
    }
    const nst_smp_choose_response response = {.path = path, .switched = path != before};
    return nst_smp_answer(call, choose_response, &response);
}

int nst_smp_cancel(nst_smp_call *call) {
    const nst_engine *engine = &call->server->config.engine;
    engine->ops->cancel(engine->self);
    call->server->counters.cancels++;
    return nst_smp_answer_empty(call);
}
