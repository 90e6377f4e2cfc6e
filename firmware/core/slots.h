/* The bundle store: two slots for bundles in flash, and a superblock in two copies that says which
 * one runs.
 *
 *     [superblock][superblock] ... [header of slot 0][bundle] [header of slot 1][bundle]
 *
 * One slot, the active one, holds the bundle that is to run; the other one is idle and takes the
 * next bundle. The states of the idle slot are marks in the superblock, words that are cleared one
 * after the other, each by one program operation:
 *
 *     (erased) -> writing -> complete -> trying -> booted -> confirmed
 *                                                        \-> rejected
 *
 * A slot is complete when every hash in its bundle was right. A slot that is to be tried runs once:
 * it is marked as booted before it is opened, and a slot that was booted and not confirmed is not
 * booted again. Confirming makes it the active one. Whatever is cut, at any operation, the store
 * opens again with the old active slot or the new one, and never without.
 *
 * What of an update has arrived is kept by sector, in the header of its slot, so that it goes on
 * after a reset. There are two ways to write one: an upload is the whole file from front to back; a
 * push begins with the head of the bundle (everything before its first section) and then takes only
 * the sections whose SHA-256 is not on the device.
 *
 * C11, no heap. The caller owns all memory; one thread at a time.
 */
#ifndef NESTLING_CORE_SLOTS_H
#define NESTLING_CORE_SLOTS_H

#include "bundle.h"
#include "flash.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define NST_STORE_SLOTS 2u

typedef enum nst_store_state {
    NST_STORE_EMPTY = 0,    /* nothing, or the rest of an update that was given up */
    NST_STORE_WRITING = 1,  /* an update is coming in */
    NST_STORE_COMPLETE = 2, /* a bundle, every hash right; not to be run */
    NST_STORE_PENDING = 3,  /* to be tried at the next boot */
    NST_STORE_TRYING = 4,   /* runs until the next reset, and not again unless confirmed */
    NST_STORE_ACTIVE = 5    /* the confirmed one */
} nst_store_state;

typedef enum nst_store_update {
    NST_UPDATE_NONE = 0,
    NST_UPDATE_FILE = 1, /* nst_store_upload */
    NST_UPDATE_PUSH = 2  /* nst_store_push_* */
} nst_store_update;

/* Where a bundle lies; what nst_engine_ops.open takes. */
typedef struct nst_store_place {
    uint32_t slot; /* 0 or 1, or NST_NONE */
    size_t offset; /* in the flash, a multiple of NST_SECTION_ALIGNMENT */
    size_t size;   /* bytes of the bundle */
} nst_store_place;

typedef struct nst_store_slot {
    nst_store_state state;
    bool running;                 /* nst_store_boot or nst_store_try chose it */
    nst_store_place place;        /* size 0 unless there is a bundle (COMPLETE or later) */
    uint8_t hash[NST_HASH_BYTES]; /* of the bundle's manifest; zeros unless there is one */
} nst_store_slot;

/* The update of the idle slot. */
typedef struct nst_store_progress {
    nst_store_update kind;
    uint32_t slot;
    size_t total_bytes;
    size_t head_bytes; /* push: of the head, as they are sent */
    bool named;
    uint8_t name[NST_HASH_BYTES]; /* upload: SHA-256 of the file; push: of the manifest */
    bool complete;                /* every hash was right */
    /* The piece that is being written: the whole file, the head (section NST_NONE) or a section.
     * Offsets count from the start of the bundle. */
    bool piece_open;
    uint32_t section;
    size_t begin;
    size_t end;
    size_t padded_end; /* zeros are filled in up to here */
    size_t next;       /* byte expected next */
} nst_store_progress;

/* The store's own; read what you like, change nothing. */
typedef struct nst_store {
    nst_flash *flash;
    const nst_hash_ops *hash;
    void *index;
    size_t index_bytes;
    size_t slot_bytes;                     /* capacity of one slot */
    size_t header_bytes;                   /* of the header of a slot, whole sectors */
    size_t header_offset[NST_STORE_SLOTS]; /* in the flash */
    size_t bundle_offset[NST_STORE_SLOTS]; /* in the flash */
    uint32_t copy;                         /* of the superblock that is valid */
    uint32_t sequence;                     /* its number; of two the higher one is valid */
    uint32_t written_active;               /* slot that it calls active, or NST_NONE */
    uint32_t running;                      /* slot, or NST_NONE */
    nst_store_progress update;
    bool heads_open;     /* the two below are */
    nst_bundle incoming; /* push: the head of the new bundle */
    nst_bundle present;  /* the bundle of the other slot; no sections where there is none */
} nst_store;

/* Open the store in a flash; a flash without a superblock is given an empty one. `index` (4-byte
 * aligned) is memory for the indexes of two bundles, the old and the new one, while an update is
 * checked: see nst_bundle_index_bytes; a bundle that needs more is refused with NST_E_LIMIT.
 * Everything must outlive the store. NST_E_ARGUMENT; NST_E_LIMIT: the flash is too small for two
 * slots; NST_E_VERSION: the store was made for another geometry, or by a newer version; NST_E_IO.
 */
int nst_store_open(nst_store *store, nst_flash *flash, const nst_hash_ops *hash, void *index,
                   size_t index_bytes, nst_error *err);

/* Choose the bundle to run after a reset, and note in the flash that a trial has begun. Call it
 * once after nst_store_open. NST_E_NOT_FOUND: there is no bundle yet. */
int nst_store_boot(nst_store *store, nst_store_place *out, nst_error *err);

/* The bundle that was chosen does not open. A trial is rejected, and the active one is chosen; in
 * place of an active one that is broken, the other slot's if there is a complete one.
 * NST_E_NOT_FOUND: nothing is left. */
int nst_store_boot_failed(nst_store *store, nst_store_place *out, nst_error *err);

/* The slot that holds the confirmed bundle, or NST_NONE; and the one that takes the next bundle. */
uint32_t nst_store_active(const nst_store *store);
uint32_t nst_store_idle(const nst_store *store);

/* State of a slot (0 or 1). NST_E_NOT_FOUND. */
int nst_store_slot_state(const nst_store *store, uint32_t slot, nst_store_slot *out);

/* Try a complete slot at the next boot. NST_E_STATE: it is not complete. No-op on the active slot.
 */
int nst_store_test(nst_store *store, uint32_t slot, nst_error *err);

/* Note that a complete slot runs from now on, until the next reset. The caller opens it, first or
 * afterwards. The active slot: the trial is over and rejected. NST_E_STATE: it is not complete. */
int nst_store_try(nst_store *store, uint32_t slot, nst_error *err);

/* Make a slot the active one: a complete one (running or not); no-op on the active one.
 * NST_E_STATE. */
int nst_store_confirm(nst_store *store, uint32_t slot, nst_error *err);

/* Forget what is in the idle slot. NST_E_STATE: it runs. */
int nst_store_erase(nst_store *store, uint32_t slot, nst_error *err);

/* Bytes `off`.. of a file of `total_bytes`. `sha256` (null: not told) names the file: with off ==
 * 0, an upload of the same name and size goes on where it stopped, any other one begins anew. A
 * piece that is not the one expected is not written, and is no error: `out_next` says what is. When
 * the last byte has come, every hash is checked: then update.complete is set, or NST_E_HASH,
 * NST_E_CORRUPT ... says why not, and the update is over. NST_E_LIMIT: the slot is too small
 * (expected: bytes needed, actual: bytes there are); NST_E_STATE: no upload has begun, or a trial
 * runs in the idle slot. */
int nst_store_upload(nst_store *store, uint64_t off, const void *data, size_t bytes,
                     uint64_t total_bytes, const uint8_t *sha256, uint64_t *out_next,
                     nst_error *err);

/* Bytes `off`.. of the head of a bundle of `total_bytes`. `head_bytes` may leave out zeros at the
 * end: the device fills them in up to the first section. `manifest_sha256` names the update; it,
 * head_bytes and total_bytes count with off == 0 only. `out_next` as above; it is head_bytes when
 * the head is complete. Errors as above. */
int nst_store_push_head(nst_store *store, uint64_t off, const void *data, size_t bytes,
                        uint64_t head_bytes, uint64_t total_bytes, const uint8_t *manifest_sha256,
                        uint64_t *out_next, nst_error *err);

/* Copy sections that are on the device already, at most about `most_bytes` a call. `out_left`:
 * bytes that can still be copied; call again until it is 0. NST_E_STATE: the head is not complete.
 */
int nst_store_push_copy(nst_store *store, uint64_t most_bytes, uint64_t *out_left, nst_error *err);

/* The next section, from number `from`, of which bytes are missing: its number, or NST_NONE, and
 * how much of it is there. NST_E_STATE: the head is not complete. */
int nst_store_push_missing(nst_store *store, uint32_t from, uint32_t *out_section,
                           uint64_t *out_off, nst_error *err);

/* Bytes `off`.. of a section. One section is written at a time; of one that is left half-way, whole
 * sectors count. NST_E_NOT_FOUND: no such section; NST_E_LIMIT: beyond its end; NST_E_STATE. */
int nst_store_push_data(nst_store *store, uint32_t section, uint64_t off, const void *data,
                        size_t bytes, uint64_t *out_next, nst_error *err);

/* Everything was sent: check every hash, and mark the slot complete. NST_E_STATE: sections are
 * missing (the error says how many bytes); NST_E_HASH, NST_E_CORRUPT, ...: it is not what it should
 * be, and the update is over. */
int nst_store_push_check(nst_store *store, nst_store_place *out, nst_error *err);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
