#include "flash_ddr.h"

#include <string.h>

#include "boards/cortex_m/semihosting.h"

extern uint8_t nst_flash_begin[];

enum { FLASH_BYTES = 64 << 20, PROVISION_BYTES = 16 << 10, SECTOR_BYTES = 4096, PAGE_BYTES = 256 };

static int erase(void *self, size_t offset, nst_error *err) {
    (void)self;
    (void)err;
    memset(nst_flash_begin + offset, 0xFF, SECTOR_BYTES);
    return NST_OK;
}

static int program(void *self, size_t offset, const uint8_t *data, size_t bytes, nst_error *err) {
    (void)self;
    (void)err;
    for (size_t i = 0; i < bytes; i++) {
        nst_flash_begin[offset + i] &= data[i];
    }
    return NST_OK;
}

static void cut_power(void *self) {
    (void)self;
    nst_semihosting_exit(NST_POWER_CUT_STATUS);
}

static const nst_flash_ops ops = {.erase = erase, .program = program, .cut_power = cut_power};

void nst_provision_read(nst_provision *out) {
    const uint8_t *at = nst_flash_begin + FLASH_BYTES - PROVISION_BYTES;
    uint32_t keyed = 0;
    *out = (nst_provision){.store_bytes = 0};
    if (memcmp(at, "NSTBOARD", 8) == 0) {
        memcpy(&out->store_bytes, at + 8, sizeof out->store_bytes);
        memcpy(&keyed, at + 16, sizeof keyed);
        out->public_key = keyed == 1 ? at + 24 : NULL;
    }
    if (out->store_bytes == 0 || out->store_bytes > FLASH_BYTES - PROVISION_BYTES) {
        out->store_bytes = FLASH_BYTES - PROVISION_BYTES;
    }
}

void nst_flash_ddr_init(nst_flash *flash) {
    nst_provision provision;
    nst_provision_read(&provision);
    *flash =
        (nst_flash){.ops = &ops,
                    .memory = nst_flash_begin,
                    .geometry = {.size_bytes = provision.store_bytes / SECTOR_BYTES * SECTOR_BYTES,
                                 .sector_bytes = SECTOR_BYTES,
                                 .page_bytes = PAGE_BYTES}};
}
