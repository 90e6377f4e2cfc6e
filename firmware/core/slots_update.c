/* Updates: the header of a slot, writing by sectors, and uploads. */
#include <string.h>

#include "checked.h"
#include "crc.h"
#include "sentence.h"
#include "slots_internal.h"

static const uint8_t magic[8] = {'N', 'S', 'T', 'U', 'P', 'D', 'A', 'T'};
enum {
    SEQUENCE_AT = 8, /* of the superblock that this update belongs to */
    KIND_AT = 12,
    TOTAL_AT = 16,
    HEAD_AT = 24,
    NAMED_AT = 28,
    NAME_AT = 32,
    CRC_AT = 64,
    HEADER_BYTES = 68
};

static const uint8_t *header(const nst_store *store, uint32_t slot) {
    return store->flash->memory + store->header_offset[slot];
}

void nst_store_recall(nst_store *store) {
    uint32_t slot = nst_store_idle(store);
    const uint8_t *at = header(store, slot);
    store->update = (nst_store_progress){.kind = NST_UPDATE_NONE};
    store->heads_open = false;
    if (memcmp(at, magic, sizeof magic) != 0 ||
        nst_crc32(0, at, CRC_AT) != nst_load_u32(at + CRC_AT) ||
        nst_load_u32(at + SEQUENCE_AT) != store->sequence ||
        !nst_store_marked(store, NST_MARK_WRITING) || nst_store_marked(store, NST_MARK_CONFIRMED)) {
        return;
    }
    nst_store_progress *update = &store->update;
    update->kind =
        nst_load_u32(at + KIND_AT) == NST_UPDATE_FILE ? NST_UPDATE_FILE : NST_UPDATE_PUSH;
    update->slot = slot;
    update->total_bytes = (size_t)nst_load_u64(at + TOTAL_AT);
    update->head_bytes = nst_load_u32(at + HEAD_AT);
    update->named = nst_load_u32(at + NAMED_AT) != 0;
    memcpy(update->name, at + NAME_AT, NST_HASH_BYTES);
    update->complete = nst_store_marked(store, NST_MARK_COMPLETE);
}

int nst_store_begin(nst_store *store, nst_store_update kind, uint64_t total_bytes,
                    uint64_t head_bytes, const uint8_t *name, nst_error *err) {
    uint8_t block[HEADER_BYTES] = {0};
    uint32_t slot = nst_store_idle(store);
    if (slot == store->running) {
        return nst_store_fail(
            err, NST_E_STATE, 0, slot,
            NST_TEXT("the bundle that is being tried must be confirmed or rejected first"));
    }
    if (total_bytes > store->slot_bytes) {
        return nst_store_fail(err, NST_E_LIMIT, total_bytes, store->slot_bytes,
                              NST_TEXT("the bundle is larger than a slot of this device"));
    }
    memcpy(block, magic, sizeof magic);
    nst_store_u32(block + SEQUENCE_AT, store->sequence + 1);
    nst_store_u32(block + KIND_AT, (uint32_t)kind);
    nst_store_u64(block + TOTAL_AT, total_bytes);
    nst_store_u32(block + HEAD_AT, (uint32_t)head_bytes);
    nst_store_u32(block + NAMED_AT, name != NULL);
    if (name != NULL) {
        memcpy(block + NAME_AT, name, NST_HASH_BYTES);
    }
    nst_store_u32(block + CRC_AT, nst_crc32(0, block, CRC_AT));
    /* From here on the superblock calls the slot erased. */
    int code = nst_store_renew(store, false, err);
    size_t at = store->header_offset[slot];
    for (size_t done = 0; code == NST_OK && done < store->header_bytes;
         done += store->flash->geometry.sector_bytes) {
        code = nst_flash_erase(store->flash, at + done, err);
    }
    if (code == NST_OK) {
        code = nst_flash_program(store->flash, at, block, sizeof block, err);
    }
    if (code == NST_OK) {
        code = nst_store_mark_now(store, NST_MARK_WRITING, err);
    }
    if (code == NST_OK) {
        nst_store_recall(store);
    }
    return code;
}

int nst_store_abandon(nst_store *store, nst_error *err) {
    bool used =
        nst_store_marked(store, NST_MARK_WRITING) || nst_store_marked(store, NST_MARK_CONFIRMED);
    return used ? nst_store_renew(store, false, err) : NST_OK;
}

/* Whether the sector with this number, counted from the start of the bundle, is written. */
static bool is_written(const nst_store *store, size_t sector) {
    uint8_t bits = header(store, store->update.slot)[NST_HEADER_BITS_AT + sector / 8];
    return (bits >> (sector % 8) & 1) == 0;
}

static int set_written(nst_store *store, size_t sector, nst_error *err) {
    size_t at = NST_HEADER_BITS_AT + sector / 8;
    uint8_t bits = header(store, store->update.slot)[at] & (uint8_t)~(1u << (sector % 8));
    return nst_flash_program(store->flash, store->header_offset[store->update.slot] + at, &bits, 1,
                             err);
}

size_t nst_store_written(const nst_store *store, size_t begin, size_t end) {
    size_t size = store->flash->geometry.sector_bytes;
    size_t at = begin;
    while (at < end && is_written(store, at / size)) {
        at += size;
    }
    return at < end ? at : end;
}

/* Write bytes of the bundle, front to back: a sector is erased before its first byte, and noted
 * after its last. */
static int write(nst_store *store, size_t at, const uint8_t *data, size_t bytes, nst_error *err) {
    size_t size = store->flash->geometry.sector_bytes;
    size_t bundle = store->bundle_offset[store->update.slot];
    while (bytes > 0) {
        size_t within = at % size;
        size_t piece = bytes < size - within ? bytes : size - within;
        int code = within == 0 ? nst_flash_erase(store->flash, bundle + at, err) : NST_OK;
        if (code == NST_OK) {
            code = nst_flash_program(store->flash, bundle + at, data, piece, err);
        }
        if (code == NST_OK && (within + piece == size || at + piece == store->update.total_bytes)) {
            code = set_written(store, at / size, err);
        }
        if (code != NST_OK) {
            return code;
        }
        at += piece;
        data += piece;
        bytes -= piece;
    }
    return NST_OK;
}

/* Zeros from the end of the piece to the next section. */
static int pad(nst_store *store, size_t from, nst_error *err) {
    const uint8_t zeros[256] = {0};
    int code = NST_OK;
    while (code == NST_OK && from < store->update.padded_end) {
        size_t left = store->update.padded_end - from;
        size_t to_border = sizeof zeros - from % sizeof zeros;
        size_t piece = left < to_border ? left : to_border;
        code = write(store, from, zeros, piece, err);
        from += piece;
    }
    return code;
}

int nst_store_open_piece(nst_store *store, uint32_t section, size_t begin, size_t end,
                         size_t padded_end, nst_error *err) {
    nst_store_progress *update = &store->update;
    if (update->piece_open && update->section == section && update->begin == begin) {
        return NST_OK;
    }
    size_t next = nst_store_written(store, begin, padded_end);
    update->piece_open = true;
    update->section = section;
    update->begin = begin;
    update->end = end;
    update->padded_end = padded_end;
    update->next = next < end ? next : end;
    int code = NST_OK;
    if (next >= end && next < padded_end) { /* the power failed in the padding */
        code = pad(store, next, err);
    }
    update->piece_open = code == NST_OK;
    return code;
}

int nst_store_write_piece(nst_store *store, uint64_t at, const uint8_t *data, size_t bytes,
                          nst_error *err) {
    nst_store_progress *update = &store->update;
    if (at != update->next || bytes == 0 || update->next == update->end) {
        return NST_OK;
    }
    if (bytes > update->end - at) {
        return nst_store_fail(err, NST_E_LIMIT, update->end - update->begin,
                              at + bytes - update->begin,
                              NST_TEXT("more bytes were sent than announced"));
    }
    int code = write(store, update->next, data, bytes, err);
    if (code == NST_OK && at + bytes == update->end) {
        code = pad(store, update->end, err);
    }
    if (code == NST_OK) {
        update->next += bytes;
    } else {
        update->piece_open = false; /* start again from the last whole sector */
    }
    return code;
}

/* The SHA-256 that an upload was named by. */
static int check_file(nst_store *store, nst_error *err) {
    nst_hash_state state;
    uint8_t digest[NST_HASH_BYTES];
    const nst_hash_ops *hash = store->hash;
    const nst_store_progress *update = &store->update;
    if (update->kind != NST_UPDATE_FILE || !update->named) {
        return NST_OK;
    }
    if (hash->init(&state) != 0 ||
        hash->update(&state, nst_store_bytes(store, update->slot), update->total_bytes) != 0 ||
        hash->final(&state, digest) != 0) {
        return nst_store_refuse(err, NST_E_HASH, NST_TEXT("the hash could not be computed"));
    }
    if (memcmp(digest, update->name, sizeof digest) != 0) {
        return nst_store_refuse(err, NST_E_HASH,
                                NST_TEXT("the file's bytes are not those that were announced"));
    }
    return NST_OK;
}

int nst_store_finish(nst_store *store, nst_error *err) {
    nst_bundle bundle;
    nst_store_progress *update = &store->update;
    store->heads_open = false; /* the index is used anew */
    int code = check_file(store, err);
    if (code == NST_OK) {
        code = nst_bundle_open(&bundle, nst_store_bytes(store, update->slot), update->total_bytes,
                               store->index, store->index_bytes, store->hash, err);
    }
    for (uint32_t i = 0; code == NST_OK && i < bundle.count[NST_SECTIONS]; i++) {
        code = nst_bundle_check_section(&bundle, i, store->hash, err);
    }
    if (code != NST_OK) {
        int erased = nst_store_abandon(store, NULL);
        return erased == NST_OK
                   ? code
                   : nst_store_refuse(err, erased, NST_TEXT("the flash cannot be written"));
    }
    code = nst_store_mark_now(store, NST_MARK_COMPLETE, err);
    update->complete = code == NST_OK;
    return code;
}

/* Whether the update that is under way (or just complete) is this upload. */
static bool is_same(const nst_store_progress *update, uint64_t total_bytes, const uint8_t *sha256) {
    return update->kind == NST_UPDATE_FILE && update->named && sha256 != NULL &&
           update->total_bytes == total_bytes && memcmp(update->name, sha256, NST_HASH_BYTES) == 0;
}

int nst_store_upload(nst_store *store, uint64_t off, const void *data, size_t bytes,
                     uint64_t total_bytes, const uint8_t *sha256, uint64_t *out_next,
                     nst_error *err) {
    nst_store_progress *update = &store->update;
    int code = NST_OK;
    *out_next = 0;
    if (off == 0 && !is_same(update, total_bytes, sha256)) {
        if (total_bytes < NST_PREFIX_BYTES) {
            return nst_store_fail(err, NST_E_TRUNCATED, NST_PREFIX_BYTES, total_bytes,
                                  NST_TEXT("the file is too short to be a bundle"));
        }
        code = nst_store_begin(store, NST_UPDATE_FILE, total_bytes, 0, sha256, err);
    }
    if (code == NST_OK && update->kind != NST_UPDATE_FILE) {
        code = nst_store_fail(err, NST_E_STATE, 0, off, NST_TEXT("no upload has begun"));
    }
    if (code == NST_OK && !update->complete) {
        code =
            nst_store_open_piece(store, NST_NONE, 0, update->total_bytes, update->total_bytes, err);
    }
    if (code == NST_OK && !update->complete) {
        code = nst_store_write_piece(store, off, data, bytes, err);
    }
    if (code == NST_OK && !update->complete && update->next == update->total_bytes) {
        code = nst_store_finish(store, err);
    }
    if (code == NST_OK) {
        *out_next = update->complete ? update->total_bytes : update->next;
    }
    return code;
}
