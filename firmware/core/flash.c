#include "flash.h"

#include "sentence.h"

static bool is_power_of_two(uint32_t value) {
    return value != 0 && (value & (value - 1)) == 0;
}

int nst_flash_check(const nst_flash *flash, nst_error *err) {
    const nst_flash_geometry *is = &flash->geometry;
    bool sound = flash->ops != NULL && flash->memory != NULL && is_power_of_two(is->sector_bytes) &&
                 is_power_of_two(is->page_bytes) && is->sector_bytes >= 256 &&
                 is->sector_bytes <= 16384 && is->page_bytes >= 64 &&
                 is->page_bytes <= is->sector_bytes && is->size_bytes % is->sector_bytes == 0;
    return sound ? NST_OK
                 : nst_fail_in(err, NST_E_ARGUMENT, "flash",
                               NST_TEXT("the geometry of the flash makes no sense"));
}

void nst_flash_cut_after(nst_flash *flash, uint64_t operations, nst_flash_cut cut) {
    flash->cut_at = operations == 0 ? 0 : flash->erases + flash->programs + operations;
    flash->cut = cut;
}

static int fail_dead(nst_error *err) {
    return nst_fail_in(err, NST_E_IO, "flash", NST_TEXT("the power was cut"));
}

/* Count an operation; whether it is the one in which the power fails. */
static bool is_cut(nst_flash *flash, uint64_t *counter) {
    *counter += 1;
    return flash->cut_at != 0 && flash->erases + flash->programs == flash->cut_at;
}

static int die(nst_flash *flash, nst_error *err) {
    flash->dead = true;
    if (flash->ops->cut_power != NULL) {
        flash->ops->cut_power(flash->self);
    }
    return fail_dead(err);
}

/* Program half of a piece, and every other bit of the byte behind it. */
static void tear(nst_flash *flash, size_t offset, const uint8_t *data, size_t bytes) {
    size_t half = bytes / 2;
    if (half > 0) {
        (void)flash->ops->program(flash->self, offset, data, half, NULL);
    }
    uint8_t torn = data[half] | 0x55;
    (void)flash->ops->program(flash->self, offset + half, &torn, 1, NULL);
}

int nst_flash_erase(nst_flash *flash, size_t offset, nst_error *err) {
    if (offset % flash->geometry.sector_bytes != 0 || offset >= flash->geometry.size_bytes) {
        return nst_fail(err, NST_E_ARGUMENT, "flash", NULL, flash->geometry.size_bytes, offset,
                        NST_TEXT("no sector of the flash starts there"));
    }
    if (flash->dead) {
        return fail_dead(err);
    }
    if (!is_cut(flash, &flash->erases)) {
        return flash->ops->erase(flash->self, offset, err);
    }
    if (flash->cut != NST_CUT_BEFORE) {
        (void)flash->ops->erase(flash->self, offset, NULL);
    }
    if (flash->cut == NST_CUT_TORN) {
        /* Bits that did not make it to one: the second half of the sector holds anything. */
        const uint8_t left[64] = {0};
        uint32_t half = flash->geometry.sector_bytes / 2;
        for (uint32_t at = half; at < 2 * half; at += sizeof left) {
            (void)flash->ops->program(flash->self, offset + at, left, sizeof left / 2, NULL);
        }
    }
    return die(flash, err);
}

/* A piece within one page. */
static int program_page(nst_flash *flash, size_t offset, const uint8_t *data, size_t bytes,
                        nst_error *err) {
    for (size_t i = 0; i < bytes; i++) {
        if ((data[i] & ~flash->memory[offset + i]) != 0) {
            return nst_fail(err, NST_E_IO, "flash", NULL, 0, offset + i,
                            NST_TEXT("a bit that is zero in the flash would have to become one"));
        }
    }
    if (flash->dead) {
        return fail_dead(err);
    }
    if (!is_cut(flash, &flash->programs)) {
        return flash->ops->program(flash->self, offset, data, bytes, err);
    }
    if (flash->cut == NST_CUT_AFTER) {
        (void)flash->ops->program(flash->self, offset, data, bytes, NULL);
    } else if (flash->cut == NST_CUT_TORN) {
        tear(flash, offset, data, bytes);
    }
    return die(flash, err);
}

int nst_flash_program(nst_flash *flash, size_t offset, const void *data, size_t bytes,
                      nst_error *err) {
    const uint8_t *from = data;
    size_t size = flash->geometry.size_bytes;
    if (offset > size || bytes > size - offset) {
        return nst_fail(err, NST_E_ARGUMENT, "flash", NULL, size, offset,
                        NST_TEXT("the bytes reach over the end of the flash"));
    }
    while (bytes > 0) {
        size_t left = flash->geometry.page_bytes - offset % flash->geometry.page_bytes;
        size_t piece = bytes < left ? bytes : left;
        int code = program_page(flash, offset, from, piece, err);
        if (code != NST_OK) {
            return code;
        }
        offset += piece;
        from += piece;
        bytes -= piece;
    }
    return NST_OK;
}
