/* Group 1: images, that is the two bundle slots. */
#include <string.h>

#include "cbor.h"
#include "manifest.h"
#include "sentence.h"
#include "smp_call.h"

/* Name of the bundle in a slot. It stands behind the notes, at the front of the manifest. */
static nst_text name_of(const nst_store *store, const nst_store_place *place) {
    const uint8_t *manifest = store->flash->memory + place->offset + NST_PREFIX_BYTES;
    nst_cursor cursor = {manifest, manifest + (place->size - NST_PREFIX_BYTES)};
    nst_text name = {NULL, 0};
    nst_list notes;
    uint32_t members = 0;
    bool taken = nst_take_map(&cursor, &members) && nst_take_key(&cursor, "meta") &&
                 nst_decode_notes(&cursor, &notes) && nst_take_key(&cursor, "name") &&
                 nst_take_name(&cursor, &name);
    return taken ? name : (nst_text){NULL, 0};
}

static bool next_image(void *self, uint32_t i, nst_smp_encoder *encoder) {
    nst_smp_call *call = self;
    nst_store_slot slot;
    /* Entries are numbered without gaps, slots with a bundle need not be. */
    uint32_t number = 0;
    for (uint32_t skipped = 0; number < NST_STORE_SLOTS; number++) {
        (void)nst_store_slot_state(call->server->config.store, number, &slot);
        if (slot.place.size > 0 && skipped++ == i) {
            break;
        }
    }
    if (number == NST_STORE_SLOTS) {
        return false;
    }
    const nst_smp_image_entry entry = {
        .slot = number,
        .version = name_of(call->server->config.store, &slot.place),
        .has_hash = true,
        .hash = {slot.hash, NST_HASH_BYTES},
        .bootable = true,
        .pending = slot.state == NST_STORE_PENDING,
        .confirmed = slot.state == NST_STORE_ACTIVE,
        .active = slot.running,
        .permanent = slot.state == NST_STORE_ACTIVE,
    };
    return nst_smp_put(encoder, &nst_smp_image_entry_message, &entry);
}

static int state(nst_smp_call *call) {
    const nst_smp_image_state_response response = {.images = {next_image, call}, .splitStatus = 0};
    return nst_smp_answer(call, image_state_response, &response);
}

/* The slot whose bundle has this hash; NST_NONE. */
static uint32_t find_slot(const nst_store *store, const nst_smp_bytes *hash) {
    nst_store_slot slot;
    for (uint32_t i = 0; i < NST_STORE_SLOTS && hash->bytes == NST_HASH_BYTES; i++) {
        if (nst_store_slot_state(store, i, &slot) == NST_OK && slot.place.size > 0 &&
            memcmp(slot.hash, hash->data, NST_HASH_BYTES) == 0) {
            return i;
        }
    }
    return NST_NONE;
}

/* The confirmed bundle again, in the middle of a trial: the trial is over. */
static int end_trial(nst_smp_call *call, uint32_t slot) {
    nst_store *store = call->server->config.store;
    nst_store_slot is;
    (void)nst_store_slot_state(store, slot, &is);
    int code = nst_smp_open(call->server, &is.place, &call->err);
    return code == NST_OK ? nst_store_try(store, slot, &call->err) : code;
}

static int write_state(nst_smp_call *call) {
    nst_store *store = call->server->config.store;
    nst_smp_image_state_write_request request;
    nst_store_slot is;
    int code = nst_smp_take(call, image_state_write_request, &request);
    if (code != NST_OK) {
        return code;
    }
    bool confirm = request.has_confirm && request.confirm;
    if (!request.has_hash && !confirm) {
        return nst_smp_refuse(call, NST_E_ARGUMENT, NST_TEXT("a trial needs the hash of a bundle"));
    }
    uint32_t slot = request.has_hash ? find_slot(store, &request.hash) : store->running;
    if (slot == NST_NONE) {
        return nst_smp_refuse(call, NST_E_NOT_FOUND,
                              NST_TEXT("no slot holds a bundle with this hash"));
    }
    (void)nst_store_slot_state(store, slot, &is);
    if (is.state == NST_STORE_ACTIVE && store->running != NST_NONE && store->running != slot) {
        code = end_trial(call, slot);
    } else if (confirm) {
        code = nst_store_confirm(store, slot, &call->err);
    } else {
        code = nst_store_test(store, slot, &call->err);
    }
    return code == NST_OK ? state(call) : code;
}

static int upload(nst_smp_call *call) {
    nst_store *store = call->server->config.store;
    nst_smp_upload_request request;
    uint64_t next = 0;
    int code = nst_smp_take(call, upload_request, &request);
    if (code != NST_OK) {
        return code;
    }
    if (request.has_image && request.image > 1) {
        return nst_smp_fail(call, NST_E_NOT_FOUND, 1, request.image,
                            NST_TEXT("there is no such image"));
    }
    if (request.off == 0 && !request.has_len) {
        return nst_smp_refuse(call, NST_E_ARGUMENT, NST_TEXT("an upload begins with its length"));
    }
    bool named = request.has_sha && request.sha.bytes == NST_HASH_BYTES;
    code = nst_store_upload(store, request.off, request.data.data, request.data.bytes,
                            request.has_len ? request.len : 0, named ? request.sha.data : NULL,
                            &next, &call->err);
    if (code != NST_OK) {
        return code;
    }
    const nst_smp_upload_response response = {
        .off = next, .has_match = store->update.complete, .match = store->update.complete};
    return nst_smp_answer(call, upload_response, &response);
}

static int erase(nst_smp_call *call) {
    nst_store *store = call->server->config.store;
    nst_smp_erase_request request;
    int code = nst_smp_take(call, erase_request, &request);
    if (code != NST_OK) {
        return code;
    }
    uint64_t slot = request.has_slot ? request.slot : nst_store_idle(store);
    code = nst_store_erase(store, slot < NST_NONE ? (uint32_t)slot : NST_NONE, &call->err);
    return code == NST_OK ? nst_smp_answer_empty(call) : code;
}

static const nst_smp_command commands[] = {
    {NST_SMP_READ, 0, state},
    {NST_SMP_WRITE, 0, write_state},
    {NST_SMP_WRITE, 1, upload},
    {NST_SMP_WRITE, 5, erase},
};
const nst_smp_group nst_smp_image_group = {1, sizeof commands / sizeof commands[0], commands};
