/* NOR flash: what a board must be able to do, and the rules that are kept on every board.
 *
 * Flash is memory-mapped: it is read through a pointer, and offsets are of the size of one. It is erased a sector at a time, to ones;
 * programming turns ones into zeros, and never the other way round. A byte may be programmed again
 * as long as that only clears bits. An operation that is cut by a power failure leaves any mixture
 * of old and new bits in the sector, or in the bytes, that it was about.
 *
 * A board gives nst_flash_ops; everybody else calls nst_flash_erase and nst_flash_program, which
 * refuse what NOR flash cannot do, count, and cut the power where a test asked for it.
 */
#ifndef NESTLING_CORE_FLASH_H
#define NESTLING_CORE_FLASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct nst_flash_geometry {
    size_t size_bytes;     /* a multiple of sector_bytes */
    uint32_t sector_bytes; /* smallest piece that can be erased: a power of two, 256 to 16384 */
    uint32_t
        page_bytes; /* a program operation lies in one page: a power of two, 64 to sector_bytes */
} nst_flash_geometry;

/* Functions return NST_OK, or NST_E_IO with `err` filled. `self` is the board's own. Only called
 * with what the rules allow. */
typedef struct nst_flash_ops {
    /* Set the sector that starts at `offset` to ones. */
    int (*erase)(void *self, size_t offset, nst_error *err);
    /* Clear the bits that are zero in `data`; the bytes lie in one page. */
    int (*program)(void *self, size_t offset, const uint8_t *data, size_t bytes, nst_error *err);
    /* Never returns on a device. May be null where no test cuts the power. */
    void (*cut_power)(void *self);
} nst_flash_ops;

/* What is left of the operation that the power failed in. */
typedef enum nst_flash_cut {
    NST_CUT_BEFORE = 0, /* nothing of it was done */
    NST_CUT_TORN = 1,   /* the first half of the bytes, and every other bit of the next byte */
    NST_CUT_AFTER = 2   /* all of it was done, but nobody was told */
} nst_flash_cut;

/* Filled by the board, which owns everything that it points at; nothing is allocated. The counters
 * may be read at any time. */
typedef struct nst_flash {
    const nst_flash_ops *ops;
    void *self;
    const uint8_t *memory; /* [geometry.size_bytes] the flash, readable; stays where it is */
    nst_flash_geometry geometry;
    uint64_t erases; /* operations begun since the start */
    uint64_t programs;
    uint64_t
        cut_at; /* the power fails in the operation with this number, counted from 1; 0: never */
    nst_flash_cut cut;
    bool dead; /* the power failed: every operation fails with NST_E_IO */
} nst_flash;

/* NST_OK, or NST_E_ARGUMENT where the geometry breaks the rules above. */
int nst_flash_check(const nst_flash *flash, nst_error *err);

/* Erase one sector. NST_E_ARGUMENT: `offset` is not the start of a sector; NST_E_IO. */
int nst_flash_erase(nst_flash *flash, size_t offset, nst_error *err);

/* Program one or more pages' bytes: split at page borders, so that each operation lies in one page.
 * NST_E_ARGUMENT: outside of the flash; NST_E_IO: a bit would have to be set, or the board failed.
 */
int nst_flash_program(nst_flash *flash, size_t offset, const void *data, size_t bytes,
                      nst_error *err);

/* Let the power fail in the `operations`-th operation from now (1: the next one); 0: never. */
void nst_flash_cut_after(nst_flash *flash, uint64_t operations, nst_flash_cut cut);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
