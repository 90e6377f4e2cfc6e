/* The emulated board's NOR flash: the first 64 MB of its DDR, which QEMU keeps in a file. Memory
 * allows anything; the rules are those of core/flash.h, which calls this. */
#ifndef NESTLING_BOARDS_MPS3_AN547_FLASH_DDR_H
#define NESTLING_BOARDS_MPS3_AN547_FLASH_DDR_H

#include "core/flash.h"

/* The flash of the bundle store: sectors of 4 KiB, pages of 256 bytes. A power cut ends the
 * emulator with exit status NST_POWER_CUT_STATUS. */
#define NST_POWER_CUT_STATUS 86u

void nst_flash_ddr_init(nst_flash *flash);

/* The last 16 KiB of the 64 MB are no part of the store: whoever makes the board writes there what
 * belongs to one device.
 *
 *   0  8 bytes "NSTBOARD"; anything else: nothing is written here
 *   8  u64 bytes of flash for the store, a multiple of 16 KiB; 0: all there are
 *  16  u32 1: bundles must be signed by the key that follows; 0: they need not be
 *  20  u32 0
 *  24  32 bytes, Ed25519 public key
 */
typedef struct nst_provision {
    uint64_t store_bytes;
    const uint8_t *public_key; /* [32] or null */
} nst_provision;

void nst_provision_read(nst_provision *out);

#endif
