/* Pushes: only what is not on the device is sent. */
#include <string.h>

#include "checked.h"
#include "reader.h"
#include "sentence.h"
#include "slots_internal.h"

static size_t align_section(size_t offset) {
    return nst_store_align(offset, NST_SECTION_ALIGNMENT);
}

/* Where the first section starts, by the size of the head. */
static size_t head_end(const nst_store *store) {
    return align_section(store->update.head_bytes);
}

static bool head_is_written(const nst_store *store) {
    return nst_store_written(store, 0, head_end(store)) == head_end(store);
}

/* Sections lie one after the other, each from the next multiple of 16 KiB, up to the end. */
static int check_sections(const nst_store *store, const nst_bundle *bundle, nst_error *err) {
    size_t end = store->update.head_bytes;
    for (uint32_t i = 0; i < bundle->count[NST_SECTIONS]; i++) {
        nst_section_info section;
        if (nst_bundle_section(bundle, i, &section) != NST_OK ||
            section.offset != align_section(end)) {
            return nst_fail_entry(
                err, NST_E_CORRUPT, NST_SECTIONS, i, align_section(end), 0,
                NST_TEXT("the section does not start where the one before it ends"));
        }
        end = (size_t)(section.offset + section.size);
    }
    return end == bundle->size
               ? NST_OK
               : nst_store_fail(err, NST_E_CORRUPT, end, bundle->size,
                                NST_TEXT("the sections do not end where the bundle does"));
}

/* Index the new bundle's head, and the bundle of the other slot behind it. */
static int open_heads(nst_store *store, nst_error *err) {
    const nst_store_progress *update = &store->update;
    nst_store_place place;
    if (store->heads_open) {
        return NST_OK;
    }
    int code = nst_open_head(&store->incoming, nst_store_bytes(store, update->slot),
                             (size_t)update->total_bytes, store->index, store->index_bytes,
                             store->hash, err);
    if (code == NST_OK &&
        memcmp(store->incoming.prefix.manifest_sha256, update->name, NST_HASH_BYTES) != 0) {
        code = nst_store_refuse(err, NST_E_HASH,
                                NST_TEXT("the head is not that of the update's name"));
    }
    if (code == NST_OK) {
        code = check_sections(store, &store->incoming, err);
    }
    store->present = (nst_bundle){.data = NULL};
    if (code == NST_OK && nst_store_find(store, nst_store_active(store), &place)) {
        size_t used = nst_bundle_index_bytes(&store->incoming.prefix);
        size_t left = store->index_bytes > used ? store->index_bytes - used : 0;
        code =
            nst_open_head(&store->present, store->flash->memory + place.offset, (size_t)place.size,
                          (uint8_t *)store->index + used, left, store->hash, err);
        if (code == NST_E_HASH || code == NST_E_CORRUPT) {
            code = NST_OK; /* the old bundle rotted: nothing of it is used */
        }
    }
    store->heads_open = code == NST_OK;
    return code;
}

int nst_store_push_head(nst_store *store, uint64_t off, const void *data, size_t bytes,
                        uint64_t head_bytes, uint64_t total_bytes, const uint8_t *manifest_sha256,
                        uint64_t *out_next, nst_error *err) {
    nst_store_progress *update = &store->update;
    int code = NST_OK;
    *out_next = 0;
    if (off == 0) {
        bool same = update->kind == NST_UPDATE_PUSH && manifest_sha256 != NULL &&
                    update->head_bytes == head_bytes && update->total_bytes == total_bytes &&
                    memcmp(update->name, manifest_sha256, NST_HASH_BYTES) == 0;
        if (manifest_sha256 == NULL || head_bytes < NST_PREFIX_BYTES ||
            head_bytes > NST_MAX_MANIFEST_BYTES ||
            align_section((size_t)head_bytes) >= total_bytes) {
            return nst_store_fail(err, NST_E_ARGUMENT, total_bytes, head_bytes,
                                  NST_TEXT("a push begins with len, total and sha of a bundle"));
        }
        code = same ? NST_OK
                    : nst_store_begin(store, NST_UPDATE_PUSH, total_bytes, head_bytes,
                                      manifest_sha256, err);
    }
    if (code == NST_OK && update->kind != NST_UPDATE_PUSH) {
        code = nst_store_fail(err, NST_E_STATE, 0, off, NST_TEXT("no push has begun"));
    }
    if (code == NST_OK && update->complete) {
        *out_next = update->head_bytes;
        return NST_OK;
    }
    if (code == NST_OK) {
        code = nst_store_open_piece(store, NST_NONE, 0, update->head_bytes, head_end(store), err);
    }
    if (code == NST_OK) {
        code = nst_store_write_piece(store, off, data, bytes, err);
    }
    if (code == NST_OK && update->next == update->end) {
        code = open_heads(store, err);
        if (code != NST_OK) {
            (void)nst_store_abandon(store, NULL);
        }
    }
    if (code == NST_OK) {
        *out_next = update->next;
    }
    return code;
}

/* A push is under way and its head is there. */
static int need_head(nst_store *store, nst_error *err) {
    if (store->update.kind != NST_UPDATE_PUSH || !head_is_written(store)) {
        return nst_store_refuse(err, NST_E_STATE,
                                NST_TEXT("the head of the bundle has not been sent"));
    }
    return open_heads(store, err);
}

static size_t padded_end(const nst_store *store, const nst_section_info *section) {
    size_t end = (size_t)(section->offset + section->size);
    return end == store->update.total_bytes ? end : align_section(end);
}

/* Bytes of a section that are there. */
static size_t bytes_there(const nst_store *store, const nst_section_info *section, uint32_t i) {
    const nst_store_progress *update = &store->update;
    size_t padded = padded_end(store, section);
    size_t written = nst_store_written(store, (size_t)section->offset, padded);
    size_t end = (size_t)(section->offset + section->size);
    if (written == padded) {
        return (size_t)section->size;
    }
    if (update->piece_open && update->section == i && update->next > written) {
        written = update->next;
    }
    /* Padding that is missing is written together with the last sector of data. */
    size_t least = end - 1 - (end - 1) % store->flash->geometry.sector_bytes;
    written = written < end ? written : least;
    return written > section->offset ? written - (size_t)section->offset : 0;
}

/* A section of the other slot with the same hash in its manifest, or null. */
static const uint8_t *find_present(const nst_store *store, const nst_section_info *wanted) {
    nst_section_info section;
    for (uint32_t i = 0; i < store->present.count[NST_SECTIONS]; i++) {
        if (nst_bundle_section(&store->present, i, &section) == NST_OK &&
            section.size == wanted->size &&
            memcmp(section.sha256, wanted->sha256, NST_HASH_BYTES) == 0) {
            return store->present.data + section.offset;
        }
    }
    return NULL;
}

static bool is_right(const nst_store *store, const uint8_t *data, const nst_section_info *section) {
    nst_hash_state state;
    uint8_t digest[NST_HASH_BYTES];
    return store->hash->init(&state) == 0 &&
           store->hash->update(&state, data, (size_t)section->size) == 0 &&
           store->hash->final(&state, digest) == 0 &&
           memcmp(digest, section->sha256, sizeof digest) == 0;
}

static int open_section(nst_store *store, uint32_t i, const nst_section_info *section,
                        nst_error *err) {
    return nst_store_open_piece(store, i, (size_t)section->offset,
                                (size_t)(section->offset + section->size),
                                padded_end(store, section), err);
}

/* Copy up to `most` bytes of a section; `from` is the section elsewhere in the flash. */
static int copy(nst_store *store, const uint8_t *from, size_t most, size_t *out_copied,
                nst_error *err) {
    const nst_store_progress *update = &store->update;
    size_t left = update->end - update->next;
    size_t bytes = left < most ? left : most;
    *out_copied = bytes;
    return nst_store_write_piece(store, update->next, from + (update->next - update->begin),
                                 (size_t)bytes, err);
}

int nst_store_push_copy(nst_store *store, uint64_t most_bytes, uint64_t *out_left, nst_error *err) {
    nst_section_info section;
    size_t budget = (size_t)most_bytes;
    int code = need_head(store, err);
    *out_left = 0;
    for (uint32_t i = 0; code == NST_OK && i < store->incoming.count[NST_SECTIONS]; i++) {
        size_t copied = 0;
        code = nst_bundle_section(&store->incoming, i, &section);
        if (code != NST_OK) {
            return nst_store_fail(err, code, 0, i, NST_TEXT("the head changed while it was read"));
        }
        size_t there = bytes_there(store, &section, i);
        const uint8_t *from = there == section.size ? NULL : find_present(store, &section);
        if (from == NULL) {
            continue;
        }
        if (budget > 0 && is_right(store, from, &section)) {
            code = open_section(store, i, &section, err);
            if (code == NST_OK) {
                code = copy(store, from, budget, &copied, err);
            }
            budget -= copied;
            there = bytes_there(store, &section, i);
            *out_left += section.size - there;
        } else if (budget == 0) {
            *out_left += section.size - there;
        }
    }
    return code;
}

int nst_store_push_missing(nst_store *store, uint32_t from, uint32_t *out_section,
                           uint64_t *out_off, nst_error *err) {
    nst_section_info section;
    int code = need_head(store, err);
    *out_section = NST_NONE;
    for (uint32_t i = from; code == NST_OK && i < store->incoming.count[NST_SECTIONS]; i++) {
        code = nst_bundle_section(&store->incoming, i, &section);
        if (code == NST_OK && bytes_there(store, &section, i) < section.size) {
            *out_section = i;
            *out_off = bytes_there(store, &section, i);
            return NST_OK;
        }
    }
    return code;
}

int nst_store_push_data(nst_store *store, uint32_t i, uint64_t off, const void *data, size_t bytes,
                        uint64_t *out_next, nst_error *err) {
    nst_section_info section;
    uint64_t at = 0;
    int code = need_head(store, err);
    *out_next = 0;
    if (code != NST_OK) {
        return code;
    }
    if (nst_bundle_section(&store->incoming, i, &section) != NST_OK) {
        return nst_store_fail(err, NST_E_NOT_FOUND, store->incoming.count[NST_SECTIONS], i,
                              NST_TEXT("the bundle has no such section"));
    }
    code = open_section(store, i, &section, err);
    if (code == NST_OK && nst_add_u64(section.offset, off, &at)) {
        code = nst_store_write_piece(store, at, data, bytes, err);
    }
    if (code == NST_OK) {
        *out_next = store->update.next - section.offset;
    }
    return code;
}

int nst_store_push_check(nst_store *store, nst_store_place *out, nst_error *err) {
    uint64_t missing = 0;
    int code = NST_OK;
    if (store->update.kind != NST_UPDATE_PUSH || !store->update.complete) {
        code = need_head(store, err);
        for (uint32_t i = 0; code == NST_OK && i < store->incoming.count[NST_SECTIONS]; i++) {
            nst_section_info section;
            code = nst_bundle_section(&store->incoming, i, &section);
            missing += code == NST_OK ? section.size - bytes_there(store, &section, i) : 0;
        }
        if (code == NST_OK && missing > 0) {
            code = nst_store_fail(err, NST_E_STATE, store->update.total_bytes,
                                  store->update.total_bytes - missing,
                                  NST_TEXT("bytes of the bundle have not been sent"));
        }
        code = code == NST_OK ? nst_store_finish(store, err) : code;
    }
    if (code == NST_OK && !nst_store_find(store, store->update.slot, out)) {
        code =
            nst_store_refuse(err, NST_E_CORRUPT, NST_TEXT("the bundle changed while it was read"));
    }
    return code;
}
