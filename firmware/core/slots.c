#include "slots.h"

#include <string.h>

#include "checked.h"
#include "crc.h"
#include "sentence.h"
#include "slots_internal.h"

/* The superblock: 64 bytes at the start of its sector, written by one program operation. */
static const uint8_t magic[8] = {'N', 'S', 'T', 'S', 'T', 'O', 'R', 'E'};
enum {
    VERSION = 1,
    VERSION_AT = 8,
    SEQUENCE_AT = 12,
    ACTIVE_AT = 16,
    SECTOR_AT = 20,
    SIZE_AT = 24,
    CRC_AT = 36, /* of everything before it; 4 bytes before it are zero */
    MARKS_AT = 40,
    MARK_BYTES = 4,
    SUPERBLOCK_BYTES = MARKS_AT + NST_MARKS * MARK_BYTES
};
_Static_assert(SUPERBLOCK_BYTES == 64, "fits into the smallest page");

int nst_store_fail(nst_error *err, int code, uint64_t expected, uint64_t actual,
                   const char *message) {
    return nst_fail(err, code, "slots", NULL, expected, actual, message);
}

int nst_store_refuse(nst_error *err, int code, const char *message) {
    return nst_fail_in(err, code, "slots", message);
}

static const uint8_t *superblock(const nst_store *store, uint32_t copy) {
    return store->flash->memory + (size_t)copy * store->flash->geometry.sector_bytes;
}

static bool is_superblock(const uint8_t *at) {
    return memcmp(at, magic, sizeof magic) == 0 &&
           nst_crc32(0, at, CRC_AT) == nst_load_u32(at + CRC_AT);
}

/* A mark counts when all its bits are cleared: half of a program operation is none. */
bool nst_store_marked(const nst_store *store, nst_store_mark mark) {
    return nst_load_u32(superblock(store, store->copy) + MARKS_AT + mark * MARK_BYTES) == 0;
}

int nst_store_mark_now(nst_store *store, nst_store_mark mark, nst_error *err) {
    static const uint8_t cleared[MARK_BYTES] = {0};
    size_t copy = (size_t)store->copy * store->flash->geometry.sector_bytes;
    return nst_flash_program(store->flash, copy + MARKS_AT + mark * MARK_BYTES, cleared,
                             sizeof cleared, err);
}

static uint32_t other(uint32_t slot) {
    return slot == NST_NONE ? 0 : 1 - slot;
}

uint32_t nst_store_active(const nst_store *store) {
    return nst_store_marked(store, NST_MARK_CONFIRMED) ? other(store->written_active)
                                                       : store->written_active;
}

uint32_t nst_store_idle(const nst_store *store) {
    return other(nst_store_active(store));
}

const uint8_t *nst_store_bytes(const nst_store *store, uint32_t slot) {
    return store->flash->memory + store->bundle_offset[slot];
}

bool nst_store_find(const nst_store *store, uint32_t slot, nst_store_place *out) {
    nst_prefix prefix;
    if (slot == NST_NONE ||
        nst_bundle_prefix(nst_store_bytes(store, slot), NST_PREFIX_BYTES, &prefix, NULL) !=
            NST_OK ||
        prefix.total_bytes > store->slot_bytes) {
        return false;
    }
    *out = (nst_store_place){slot, store->bundle_offset[slot], (size_t)prefix.total_bytes};
    return true;
}

/* Write a superblock in place of copy `copy`, and go by it from now on. */
static int write_superblock(nst_store *store, uint32_t copy, uint32_t sequence, uint32_t active,
                            bool idle_complete, nst_error *err) {
    uint8_t block[SUPERBLOCK_BYTES];
    size_t offset = (size_t)copy * store->flash->geometry.sector_bytes;
    memset(block, 0, CRC_AT);
    memset(block + MARKS_AT, 0xFF, NST_MARKS * MARK_BYTES);
    memcpy(block, magic, sizeof magic);
    nst_store_u32(block + VERSION_AT, VERSION);
    nst_store_u32(block + SEQUENCE_AT, sequence);
    nst_store_u32(block + ACTIVE_AT, active);
    nst_store_u32(block + SECTOR_AT, store->flash->geometry.sector_bytes);
    nst_store_u64(block + SIZE_AT, store->flash->geometry.size_bytes);
    nst_store_u32(block + CRC_AT, nst_crc32(0, block, CRC_AT));
    if (idle_complete) {
        memset(block + MARKS_AT, 0, 2 * MARK_BYTES); /* writing, complete */
    }
    int code = nst_flash_erase(store->flash, offset, err);
    if (code == NST_OK) {
        code = nst_flash_program(store->flash, offset, block, sizeof block, err);
    }
    if (code == NST_OK) {
        store->copy = copy;
        store->sequence = sequence;
        store->written_active = active;
        store->update = (nst_store_progress){.kind = NST_UPDATE_NONE};
        store->heads_open = false;
    }
    return code;
}

int nst_store_renew(nst_store *store, bool idle_complete, nst_error *err) {
    return write_superblock(store, 1 - store->copy, store->sequence + 1, nst_store_active(store),
                            idle_complete, err);
}

/* Divide the flash: two sectors for the superblock, then two equal slots whose bundles start at
 * multiples of 16 KiB. */
static int lay_out(nst_store *store, nst_error *err) {
    const nst_flash_geometry *is = &store->flash->geometry;
    const size_t unit = NST_SECTION_ALIGNMENT;
    size_t units = is->size_bytes / unit;
    size_t first = 2 * is->sector_bytes > unit ? 2 : 1; /* units of the superblock */
    size_t each = units < first ? 0 : (units - first) / 2 * unit;
    /* The header has one bit for each sector of the slot. */
    size_t header =
        nst_store_align(NST_HEADER_BITS_AT + each / is->sector_bytes / 8 + 1, is->sector_bytes);
    size_t padded_header = nst_store_align(header, unit);
    if (each < padded_header + 2 * unit) {
        return nst_store_fail(err, NST_E_LIMIT, (first + 6) * unit, is->size_bytes,
                              NST_TEXT("the flash is too small for two slots"));
    }
    store->header_bytes = header;
    store->slot_bytes = each - padded_header;
    for (uint32_t slot = 0; slot < NST_STORE_SLOTS; slot++) {
        store->header_offset[slot] = first * unit + slot * each;
        store->bundle_offset[slot] = store->header_offset[slot] + padded_header;
    }
    return NST_OK;
}

/* Find the valid superblock, or write the first one. */
static int read_superblock(nst_store *store, nst_error *err) {
    const nst_flash_geometry *is = &store->flash->geometry;
    bool found = false;
    for (uint32_t copy = 0; copy < 2; copy++) {
        const uint8_t *at = superblock(store, copy);
        uint32_t sequence = nst_load_u32(at + SEQUENCE_AT);
        if (is_superblock(at) && (!found || sequence > store->sequence)) {
            found = true;
            store->copy = copy;
            store->sequence = sequence;
        }
    }
    if (!found) {
        return write_superblock(store, 0, 1, NST_NONE, false, err);
    }
    const uint8_t *at = superblock(store, store->copy);
    store->written_active = nst_load_u32(at + ACTIVE_AT);
    if (nst_load_u32(at + VERSION_AT) != VERSION ||
        nst_load_u32(at + SECTOR_AT) != is->sector_bytes ||
        nst_load_u64(at + SIZE_AT) != is->size_bytes ||
        (store->written_active != NST_NONE && store->written_active >= NST_STORE_SLOTS)) {
        return nst_store_fail(err, NST_E_VERSION, is->size_bytes, nst_load_u64(at + SIZE_AT),
                              NST_TEXT("the flash holds a store of another size or version"));
    }
    return NST_OK;
}

int nst_store_open(nst_store *store, nst_flash *flash, const nst_hash_ops *hash, void *index,
                   size_t index_bytes, nst_error *err) {
    if (store == NULL || flash == NULL || hash == NULL || index == NULL ||
        (uintptr_t)index % sizeof(uint32_t) != 0) {
        return nst_store_refuse(err, NST_E_ARGUMENT,
                                NST_TEXT("an argument is null or not aligned"));
    }
    int code = nst_flash_check(flash, err);
    if (code != NST_OK) {
        return code;
    }
    *store = (nst_store){.flash = flash,
                         .hash = hash,
                         .index = index,
                         .index_bytes = index_bytes,
                         .running = NST_NONE};
    code = lay_out(store, err);
    if (code == NST_OK) {
        code = read_superblock(store, err);
    }
    if (code == NST_OK) {
        nst_store_recall(store);
    }
    return code;
}

/* A trial was asked for and has not begun. */
static bool is_pending(const nst_store *store) {
    return nst_store_marked(store, NST_MARK_TRYING) && !nst_store_marked(store, NST_MARK_BOOTED) &&
           !nst_store_marked(store, NST_MARK_CONFIRMED) &&
           !nst_store_marked(store, NST_MARK_REJECTED);
}

/* A trial has begun: nothing else is known of how it went. */
static bool is_trial(const nst_store *store) {
    return nst_store_marked(store, NST_MARK_BOOTED) &&
           !nst_store_marked(store, NST_MARK_CONFIRMED) &&
           !nst_store_marked(store, NST_MARK_REJECTED);
}

/* The idle slot holds a bundle whose hashes were right. After a change of the active slot, the old
 * one does. */
static bool idle_is_complete(const nst_store *store) {
    return nst_store_marked(store, NST_MARK_CONFIRMED) ? store->written_active != NST_NONE
                                                       : nst_store_marked(store, NST_MARK_COMPLETE);
}

static int run_active(nst_store *store, nst_store_place *out, nst_error *err) {
    store->running = nst_store_active(store);
    if (!nst_store_find(store, store->running, out)) {
        store->running = NST_NONE;
        return nst_store_refuse(err, NST_E_NOT_FOUND, NST_TEXT("there is no bundle on the device"));
    }
    return NST_OK;
}

int nst_store_boot(nst_store *store, nst_store_place *out, nst_error *err) {
    uint32_t idle = nst_store_idle(store);
    if (is_pending(store) && nst_store_find(store, idle, out)) {
        int code = nst_store_mark_now(store, NST_MARK_BOOTED, err);
        if (code == NST_OK) {
            store->running = idle;
        }
        return code;
    }
    return run_active(store, out, err);
}

int nst_store_boot_failed(nst_store *store, nst_store_place *out, nst_error *err) {
    uint32_t idle = nst_store_idle(store);
    if (store->running == idle && is_trial(store)) {
        int code = nst_store_mark_now(store, NST_MARK_REJECTED, err);
        return code == NST_OK ? run_active(store, out, err) : code;
    }
    if (store->running != idle && idle_is_complete(store) && nst_store_find(store, idle, out)) {
        store->running = idle;
        return NST_OK;
    }
    store->running = NST_NONE;
    return nst_store_refuse(err, NST_E_NOT_FOUND, NST_TEXT("no bundle on the device opens"));
}

int nst_store_slot_state(const nst_store *store, uint32_t slot, nst_store_slot *out) {
    if (slot >= NST_STORE_SLOTS) {
        return NST_E_NOT_FOUND;
    }
    *out = (nst_store_slot){.state = NST_STORE_EMPTY, .running = slot == store->running};
    out->place.slot = slot;
    if (slot == nst_store_active(store)) {
        out->state = NST_STORE_ACTIVE;
    } else if (slot != nst_store_idle(store)) {
        return NST_OK; /* the second slot of a store that never had a bundle */
    } else if (idle_is_complete(store)) {
        out->state = is_pending(store)                 ? NST_STORE_PENDING
                     : is_trial(store) && out->running ? NST_STORE_TRYING
                                                       : NST_STORE_COMPLETE;
    } else if (nst_store_marked(store, NST_MARK_WRITING) &&
               !nst_store_marked(store, NST_MARK_CONFIRMED)) {
        out->state = NST_STORE_WRITING;
    }
    if (out->state >= NST_STORE_COMPLETE && nst_store_find(store, slot, &out->place)) {
        memcpy(out->hash, nst_store_bytes(store, slot) + 32, NST_HASH_BYTES);
    }
    return NST_OK;
}

/* Make sure that the marks behind `complete` are free to be cleared for the idle slot. */
static int free_marks(nst_store *store, nst_error *err) {
    if (!idle_is_complete(store)) {
        return nst_store_refuse(err, NST_E_STATE, NST_TEXT("the slot holds no complete bundle"));
    }
    bool used = nst_store_marked(store, NST_MARK_BOOTED) ||
                nst_store_marked(store, NST_MARK_CONFIRMED) ||
                nst_store_marked(store, NST_MARK_REJECTED);
    return used ? nst_store_renew(store, true, err) : NST_OK;
}

static int check_slot(uint32_t slot, nst_error *err) {
    return slot < NST_STORE_SLOTS ? NST_OK
                                  : nst_store_fail(err, NST_E_NOT_FOUND, NST_STORE_SLOTS, slot,
                                                   NST_TEXT("there is no such slot"));
}

/* Whatever was to be tried, or is being tried, is not any more. */
static int reject_trial(nst_store *store, nst_error *err) {
    return is_pending(store) || is_trial(store) ? nst_store_mark_now(store, NST_MARK_REJECTED, err)
                                                : NST_OK;
}

int nst_store_test(nst_store *store, uint32_t slot, nst_error *err) {
    int code = check_slot(slot, err);
    if (code != NST_OK) {
        return code;
    }
    if (slot == nst_store_active(store)) {
        return store->running == slot ? reject_trial(store, err) : NST_OK;
    }
    code = free_marks(store, err);
    return code == NST_OK ? nst_store_mark_now(store, NST_MARK_TRYING, err) : code;
}

int nst_store_try(nst_store *store, uint32_t slot, nst_error *err) {
    int code = check_slot(slot, err);
    if (code == NST_OK && slot == nst_store_active(store)) {
        code = reject_trial(store, err);
    } else if (code == NST_OK) {
        code = nst_store_test(store, slot, err);
        if (code == NST_OK) {
            code = nst_store_mark_now(store, NST_MARK_BOOTED, err);
        }
    }
    if (code == NST_OK) {
        store->running = slot;
    }
    return code;
}

int nst_store_confirm(nst_store *store, uint32_t slot, nst_error *err) {
    int code = check_slot(slot, err);
    if (code != NST_OK || slot == nst_store_active(store)) {
        return code;
    }
    if (!idle_is_complete(store)) {
        return nst_store_refuse(err, NST_E_STATE, NST_TEXT("the slot holds no complete bundle"));
    }
    if (nst_store_marked(store, NST_MARK_CONFIRMED) || nst_store_marked(store, NST_MARK_REJECTED)) {
        code = nst_store_renew(store, true, err);
    }
    return code == NST_OK ? nst_store_mark_now(store, NST_MARK_CONFIRMED, err) : code;
}

int nst_store_erase(nst_store *store, uint32_t slot, nst_error *err) {
    int code = check_slot(slot, err);
    if (code != NST_OK) {
        return code;
    }
    if (slot == nst_store_active(store) || slot == store->running) {
        return nst_store_fail(err, NST_E_STATE, 0, slot, NST_TEXT("the slot is in use"));
    }
    return slot == nst_store_idle(store) ? nst_store_abandon(store, err) : NST_OK;
}
