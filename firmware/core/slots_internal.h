/* What the files of the bundle store share: slots.c (superblock, states), slots_update.c (the
 * header of a slot, writing by sectors, uploads), slots_push.c (pushes). */
#ifndef NESTLING_CORE_SLOTS_INTERNAL_H
#define NESTLING_CORE_SLOTS_INTERNAL_H

#include "slots.h"

/* Marks of the superblock, in the order in which they are cleared. */
typedef enum nst_store_mark {
    NST_MARK_WRITING = 0,
    NST_MARK_COMPLETE = 1,
    NST_MARK_TRYING = 2,
    NST_MARK_BOOTED = 3,
    NST_MARK_CONFIRMED = 4,
    NST_MARK_REJECTED = 5,
    NST_MARKS = 6
} nst_store_mark;

/* The header of a slot: what update is coming in, then a bit for each sector of the bundle, cleared
 * when the sector is written. */
#define NST_HEADER_BITS_AT 128u

static inline void nst_store_u32(uint8_t *at, uint32_t value) {
    for (int i = 0; i < 4; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

static inline uint32_t nst_load_u32(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline void nst_store_u64(uint8_t *at, uint64_t value) {
    nst_store_u32(at, (uint32_t)value);
    nst_store_u32(at + 4, (uint32_t)(value >> 32));
}

static inline uint64_t nst_load_u64(const uint8_t *at) {
    return (uint64_t)nst_load_u32(at) | (uint64_t)nst_load_u32(at + 4) << 32;
}

int nst_store_fail(nst_error *err, int code, uint64_t expected, uint64_t actual,
                   const char *message);
int nst_store_refuse(nst_error *err, int code, const char *message);

/* Round up to a multiple of `unit`, a power of two. Nothing in a flash is near the end of size_t. */
static inline size_t nst_store_align(size_t value, size_t unit) {
    return (value + unit - 1) & ~(unit - 1);
}

/* slots.c */
bool nst_store_marked(const nst_store *store, nst_store_mark mark);
int nst_store_mark_now(nst_store *store, nst_store_mark mark, nst_error *err);
/* The bytes of a slot's bundle. */
const uint8_t *nst_store_bytes(const nst_store *store, uint32_t slot);
/* Where the bundle of a slot lies by its prefix; false if there is none. Says nothing about its
 * state. */
bool nst_store_find(const nst_store *store, uint32_t slot, nst_store_place *out);
/* Write a new superblock, in which the idle slot is complete or erased. */
int nst_store_renew(nst_store *store, bool idle_complete, nst_error *err);

/* slots_update.c */
/* Take up the update that the header of the idle slot speaks of, if there is one. */
void nst_store_recall(nst_store *store);
/* Start an update of the idle slot afresh. */
int nst_store_begin(nst_store *store, nst_store_update kind, uint64_t total_bytes,
                    uint64_t head_bytes, const uint8_t *name, nst_error *err);
/* Give the update up: the idle slot is erased. */
int nst_store_abandon(nst_store *store, nst_error *err);
/* Begin to write a piece, or go on with it. */
int nst_store_open_piece(nst_store *store, uint32_t section, size_t begin, size_t end,
                         size_t padded_end, nst_error *err);
/* How far the sectors of begin..end have been written without a gap. */
size_t nst_store_written(const nst_store *store, size_t begin, size_t end);
/* Write bytes of the open piece if they are those expected next. */
int nst_store_write_piece(nst_store *store, uint64_t at, const uint8_t *data, size_t bytes,
                          nst_error *err);
/* Check every hash and mark the slot complete; otherwise abandon the update. */
int nst_store_finish(nst_store *store, nst_error *err);

#endif
