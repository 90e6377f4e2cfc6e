/* Which bundle runs: at the start, and when another one is to be tried. */
#include "smp_call.h"

void nst_smp_opened(nst_smp_server *server) {
    static const nst_policy_params params = NST_POLICY_DEFAULTS;
    const nst_engine *engine = &server->config.engine;
    const nst_bundle *bundle = engine->ops->bundle(engine->self);
    server->has_policy = false;
    server->selected = NST_NONE;
    server->selected_stages = 0;
    if (bundle != NULL) {
        nst_path_info path;
        uint32_t paths = bundle->count[NST_PATHS];
        uint32_t known = paths < server->config.cost_count ? paths : server->config.cost_count;
        server->has_policy = nst_policy_init(&server->policy, &params, server->config.costs, known);
        server->selected = 0; /* the engine selects the smallest path */
        if (nst_bundle_path(bundle, 0, &path) == NST_OK) {
            server->selected_stages = path.chain.count;
        }
    }
}

int nst_smp_open(nst_smp_server *server, const nst_store_place *place, nst_error *err) {
    const nst_engine *engine = &server->config.engine;
    int code = engine->ops->open(engine->self, place->offset, place->size, err);
    if (code == NST_OK) {
        nst_smp_opened(server);
    }
    return code;
}

int nst_smp_server_boot(nst_smp_server *server, nst_error *err) {
    nst_store_place place;
    nst_store *store = server->config.store;
    int code = nst_store_boot(store, &place, err);
    /* At most both slots are tried. */
    for (uint32_t tries = 0; code == NST_OK && tries < NST_STORE_SLOTS; tries++) {
        code = nst_smp_open(server, &place, err);
        if (code == NST_OK) {
            return NST_OK;
        }
        code =
            nst_store_boot_failed(store, &place, NULL); /* `err` says why the bundle did not open */
    }
    return code == NST_E_NOT_FOUND ? NST_OK : code;
}
