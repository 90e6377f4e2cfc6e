/* The layout of the file: no hole, no overlap, nothing behind the end. */
#include <string.h>

#include "checked.h"
#include "reader.h"
#include "sentence.h"
#include "signature.h"
#include "text.h"

static bool all_zero(const uint8_t *data, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        if (data[i] != 0) {
            return false;
        }
    }
    return true;
}

/* An error about one section, by its name. */
static int fail_section(nst_error *err, int code, nst_text name, uint64_t expected, uint64_t actual,
                        const char *message) {
    nst_fail(err, code, NULL, NULL, expected, actual, message);
    if (err != NULL) {
        nst_writer writer;
        nst_writer_start(&writer, err->section, sizeof err->section);
        nst_write_text(&writer, name);
    }
    return code;
}

/* Sections ascend, each starts at the next multiple of 16 KiB, the last one ends the file. */
static int check_sections(const nst_bundle *bundle, nst_error *err) {
    nst_section_info section;
    /* nst_bundle_prefix checked that these fit into the file. Room for a signature is kept in a
     * bundle without one too, so that signing moves nothing. */
    uint64_t used =
        NST_PREFIX_BYTES + bundle->prefix.manifest_bytes + bundle->prefix.signature_bytes;
    uint64_t end = NST_PREFIX_BYTES + bundle->prefix.manifest_bytes + NST_SIGNATURE_BYTES;
    for (uint32_t i = 0; i < bundle->count[NST_SECTIONS]; i++) {
        uint64_t start = 0;
        nst_cursor cursor = nst_entry_at(bundle, NST_SECTIONS, i);
        if (!nst_decode_section(&cursor, &section)) {
            return nst_fail_entry(err, NST_E_CORRUPT, NST_SECTIONS, i, 0, 0,
                                  NST_TEXT("the entry changed while it was read"));
        }
        if (!nst_align_u64(end, NST_SECTION_ALIGNMENT, &start) || section.offset != start) {
            return fail_section(
                err, NST_E_CORRUPT, section.name, start, section.offset,
                NST_TEXT("the section does not start where the one before it ends"));
        }
        if (start > bundle->size || section.size > bundle->size - start) {
            return fail_section(err, NST_E_CORRUPT, section.name, bundle->size, section.size,
                                NST_TEXT("the section reaches over the end of the bundle"));
        }
        if (!all_zero(bundle->data + used, (size_t)(start - used))) {
            return fail_section(err, NST_E_CORRUPT, section.name, 0, 0,
                                NST_TEXT("the padding before the section is not zero"));
        }
        end = start + section.size;
        used = end;
    }
    if (end != bundle->size) {
        return nst_fail(err, NST_E_CORRUPT, "sections", NULL, end, bundle->size,
                        NST_TEXT("bytes follow the last section"));
    }
    return NST_OK;
}

/* Walks the programs or constants of a bundle in table order, which is the order of their bytes. */
typedef struct nst_items {
    const nst_bundle *bundle;
    nst_table table;
    uint32_t next;
    uint32_t section; /* of the item `next - 1` */
    uint64_t offset;
    uint64_t size;
} nst_items;

/* Take the next item if it lies in `section`. 1: taken; 0: no more there; negative: an error. */
static int next_item(nst_items *items, uint32_t section, nst_error *err) {
    if (items->next == items->bundle->count[items->table]) {
        return 0;
    }
    nst_cursor cursor = nst_entry_at(items->bundle, items->table, items->next);
    bool taken;
    if (items->table == NST_PROGRAMS) {
        nst_program_info program;
        taken = nst_decode_program(&cursor, &program);
        items->section = program.section;
        items->offset = program.offset;
        items->size = program.size;
    } else {
        nst_constant_info constant;
        taken = nst_decode_constant(&cursor, &constant);
        items->section = constant.section;
        items->offset = constant.offset;
        items->size = constant.size;
    }
    if (!taken) {
        return nst_fail_entry(err, NST_E_CORRUPT, items->table, items->next, 0, 0,
                              NST_TEXT("the entry changed while it was read"));
    }
    if (items->section != section) {
        return 0;
    }
    items->next++;
    return 1;
}

/* The items of one section fill it: each starts at the next multiple of 64, or is the same range as
 * the one before it (two keys for the same bytes, two methods of one program). */
static int check_items(nst_items *items, uint32_t section, uint64_t section_size, nst_error *err) {
    uint64_t begin = 0; /* of the item before */
    uint64_t end = 0;
    int taken;
    while ((taken = next_item(items, section, err)) == 1) {
        uint64_t expected = 0;
        bool again = end != 0 && items->offset == begin && items->size == end - begin;
        if (again) {
            continue;
        }
        if (!nst_align_u64(end, NST_ITEM_ALIGNMENT, &expected) || items->offset != expected) {
            return nst_fail_entry(err, NST_E_CORRUPT, items->table, items->next - 1, expected,
                                  items->offset,
                                  NST_TEXT("it does not start where the one before it ends"));
        }
        if (expected > section_size || items->size > section_size - expected) {
            return nst_fail_entry(err, NST_E_CORRUPT, items->table, items->next - 1, section_size,
                                  items->size, NST_TEXT("it reaches over the end of its section"));
        }
        begin = expected;
        end = expected + items->size;
    }
    if (taken < 0) {
        return taken;
    }
    if (end != section_size) {
        return nst_fail_entry(err, NST_E_CORRUPT, NST_SECTIONS, section, end, section_size,
                              NST_TEXT("the section holds bytes that belong to nothing"));
    }
    return NST_OK;
}

/* Sections and items ascend together, so one walk over both is enough. */
static int check_tiling(const nst_bundle *bundle, nst_error *err) {
    nst_items programs = {.bundle = bundle, .table = NST_PROGRAMS};
    nst_items constants = {.bundle = bundle, .table = NST_CONSTANTS};
    nst_section_info section;
    for (uint32_t i = 0; i < bundle->count[NST_SECTIONS]; i++) {
        int code = nst_bundle_section(bundle, i, &section);
        if (code == NST_OK && section.kind != NST_DATA) {
            nst_items *items = section.kind == NST_PROGRAM ? &programs : &constants;
            code = check_items(items, i, section.size, err);
        }
        if (code != NST_OK) {
            return code;
        }
    }
    nst_items *left = programs.next < bundle->count[NST_PROGRAMS] ? &programs : &constants;
    if (left->next < bundle->count[left->table]) {
        return nst_fail_entry(
            err, NST_E_CORRUPT, left->table, left->next, 0, 0,
            NST_TEXT("it lies in no section of its kind, or the table is not in order"));
    }
    return NST_OK;
}

int nst_check_layout(const nst_bundle *bundle, nst_error *err) {
    int code = check_sections(bundle, err);
    return code == NST_OK ? check_tiling(bundle, err) : code;
}

/* The up to 63 bytes between two items of the section are zero. */
static int check_gaps(const nst_bundle *bundle, uint32_t index, const nst_section_info *section,
                      nst_error *err) {
    nst_items items = {.bundle = bundle,
                       .table = section->kind == NST_PROGRAM ? NST_PROGRAMS : NST_CONSTANTS};
    const uint8_t *data = bundle->data + section->offset;
    uint64_t end = 0;
    int taken;
    /* Items ascend by section: skip those of the sections before by halving. */
    uint32_t high = bundle->count[items.table];
    while (items.next < high) {
        uint32_t middle = items.next + (high - items.next) / 2;
        nst_items probe = items;
        probe.next = middle;
        if (next_item(&probe, NST_NONE, err) < 0) {
            return NST_E_CORRUPT;
        }
        if (probe.section < index) {
            items.next = middle + 1;
        } else {
            high = middle;
        }
    }
    while ((taken = next_item(&items, index, err)) == 1) {
        if (items.offset > section->size || items.size > section->size - items.offset) {
            return fail_section(err, NST_E_CORRUPT, section->name, 0, 0,
                                NST_TEXT("the manifest changed while it was read"));
        }
        if (items.offset > end && !all_zero(data + end, (size_t)(items.offset - end))) {
            return fail_section(err, NST_E_CORRUPT, section->name, 0, end,
                                NST_TEXT("the padding inside the section is not zero"));
        }
        end = items.offset + items.size;
    }
    return taken;
}

int nst_bundle_check_section(const nst_bundle *bundle, uint32_t i, const nst_hash_ops *hash,
                             nst_error *err) {
    nst_section_info section;
    nst_hash_state state;
    uint8_t digest[NST_HASH_BYTES];
    if (bundle == NULL || hash == NULL) {
        return nst_fail(err, NST_E_ARGUMENT, NULL, NULL, 0, 0, NST_TEXT("bundle or hash is null"));
    }
    int code = nst_bundle_section(bundle, i, &section);
    if (code != NST_OK) {
        return nst_fail_entry(err, code, NST_SECTIONS, i, bundle->count[NST_SECTIONS], i,
                              NST_TEXT("the bundle has no such section"));
    }
    if (hash->init(&state) != 0 ||
        hash->update(&state, bundle->data + section.offset, (size_t)section.size) != 0 ||
        hash->final(&state, digest) != 0) {
        return fail_section(err, NST_E_HASH, section.name, 0, 0,
                            NST_TEXT("the hash could not be computed"));
    }
    if (memcmp(digest, section.sha256, NST_HASH_BYTES) != 0) {
        return fail_section(err, NST_E_HASH, section.name, 0, 0,
                            NST_TEXT("the section's bytes are not those that were written"));
    }
    return section.kind == NST_DATA ? NST_OK : check_gaps(bundle, i, &section, err);
}
