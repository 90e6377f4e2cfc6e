/* Group 64: an update that sends only what is not on the device, and the trial of a new bundle. */
#include "sentence.h"
#include "slots_internal.h"
#include "smp_call.h"

/* Bytes copied within the flash for one request: a second or two on a slow NOR flash, so that no
 * client waits longer than it is used to. */
enum { COPY_BYTES = 256 * 1024 };

int nst_smp_push_head(nst_smp_call *call) {
    nst_store *store = call->server->config.store;
    nst_smp_push_head_request request;
    uint64_t next = 0;
    int code = nst_smp_take(call, push_head_request, &request);
    if (code == NST_OK) {
        code = nst_store_push_head(store, request.off, request.data.data, request.data.bytes,
                                   request.has_len ? request.len : 0,
                                   request.has_total ? request.total : 0,
                                   request.has_sha ? request.sha.data : NULL, &next, &call->err);
    }
    if (code != NST_OK) {
        return code;
    }
    const nst_smp_push_head_response response = {.off = next};
    return nst_smp_answer(call, push_head_response, &response);
}

/* The sections of which bytes are missing, from one on. */
typedef struct missing {
    nst_store *store;
    uint32_t next; /* section to look at */
} missing;

static bool next_missing(void *self, uint32_t i, nst_smp_encoder *encoder) {
    missing *at = self;
    uint32_t section = NST_NONE;
    uint64_t off = 0;
    (void)i;
    if (nst_store_push_missing(at->store, at->next, &section, &off, NULL) != NST_OK ||
        section == NST_NONE) {
        return false;
    }
    at->next = section + 1;
    const nst_smp_missing_entry entry = {.section = section, .off = off};
    return nst_smp_put(encoder, &nst_smp_missing_entry_message, &entry);
}

int nst_smp_push_missing(nst_smp_call *call) {
    nst_store *store = call->server->config.store;
    nst_smp_push_missing_request request;
    uint64_t copying = 0;
    uint64_t total = 0;
    int code = nst_smp_take(call, push_missing_request, &request);
    if (code == NST_OK) {
        code = nst_store_push_copy(store, COPY_BYTES, &copying, &call->err);
    }
    for (uint32_t section = 0; code == NST_OK && section != NST_NONE;) {
        uint64_t off;
        code = nst_store_push_missing(store, section, &section, &off, &call->err);
        if (section != NST_NONE) {
            total++;
            section++;
        }
    }
    if (code != NST_OK) {
        return code;
    }
    missing at = {store, request.has_from ? request.from : 0};
    const nst_smp_push_missing_response response = {
        .total = total, .copying = copying, .sections = {next_missing, &at}};
    return nst_smp_answer(call, push_missing_response, &response);
}

int nst_smp_push_data(nst_smp_call *call) {
    nst_store *store = call->server->config.store;
    nst_smp_push_data_request request;
    uint64_t next = 0;
    int code = nst_smp_take(call, push_data_request, &request);
    if (code == NST_OK) {
        code = nst_store_push_data(store, request.section, request.off, request.data.data,
                                   request.data.bytes, &next, &call->err);
    }
    if (code != NST_OK) {
        return code;
    }
    const nst_smp_push_data_response response = {.off = next};
    return nst_smp_answer(call, push_data_response, &response);
}

/* The bundle of the update, complete. */
static int check_update(nst_smp_call *call, nst_store_place *out) {
    nst_store *store = call->server->config.store;
    if (store->update.kind == NST_UPDATE_PUSH) {
        return nst_store_push_check(store, out, &call->err);
    }
    if (!store->update.complete || !nst_store_find(store, store->update.slot, out)) {
        return nst_smp_refuse(call, NST_E_STATE, NST_TEXT("there is no complete update"));
    }
    return NST_OK;
}

int nst_smp_push_commit(nst_smp_call *call) {
    nst_smp_server *server = call->server;
    nst_store *store = server->config.store;
    nst_smp_push_commit_request request;
    nst_store_place place;
    nst_store_slot slot;
    int code = nst_smp_take(call, push_commit_request, &request);
    if (code == NST_OK) {
        code = check_update(call, &place);
    }
    if (code == NST_OK && store->running != place.slot) {
        /* The engine looks at everything before it lets the present bundle go; only then is the
         * trial noted. */
        code = nst_smp_open(server, &place, &call->err);
        code = code == NST_OK ? nst_store_try(store, place.slot, &call->err) : code;
    }
    if (code == NST_OK && request.has_confirm && request.confirm) {
        code = nst_store_confirm(store, place.slot, &call->err);
    }
    if (code != NST_OK) {
        return code;
    }
    (void)nst_store_slot_state(store, place.slot, &slot);
    const nst_smp_push_commit_response response = {.slot = place.slot,
                                                   .hash = {slot.hash, NST_HASH_BYTES}};
    return nst_smp_answer(call, push_commit_response, &response);
}
