/* Second pass over the manifest: indexes point at entries, stages and paths make sense. */
#include "checked.h"
#include "path.h"
#include "reader.h"
#include "sentence.h"
#include "text.h"

static int stale(nst_error *err, nst_table table, uint32_t i) {
    return nst_fail_entry(err, NST_E_CORRUPT, table, i, 0, 0,
                          NST_TEXT("the entry changed while it was read"));
}

/* The bytes of an item, in a section of the right kind; null with the error filled otherwise. */
static const uint8_t *item_data(const nst_bundle *bundle, nst_table table, uint32_t i,
                                uint32_t section_index, uint64_t offset, uint64_t size,
                                nst_error *err) {
    nst_section_info section;
    if (nst_bundle_section(bundle, section_index, &section) != NST_OK) {
        nst_fail_entry(err, NST_E_CORRUPT, table, i, bundle->count[NST_SECTIONS], section_index,
                       NST_TEXT("it names a section that is not there"));
        return NULL;
    }
    if (section.kind != (table == NST_PROGRAMS ? NST_PROGRAM : NST_BLOB)) {
        nst_fail_entry(err, NST_E_CORRUPT, table, i, 0, 0,
                       NST_TEXT("its section is of another kind"));
        return NULL;
    }
    if (offset > section.size || size > section.size - offset) {
        nst_fail_entry(err, NST_E_CORRUPT, table, i, section.size, size,
                       NST_TEXT("it reaches over the end of its section"));
        return NULL;
    }
    return bundle->data + section.offset + offset;
}

int nst_read_constant(const nst_bundle *bundle, uint32_t i, nst_constant_info *out,
                      nst_error *err) {
    nst_cursor cursor = nst_entry_at(bundle, NST_CONSTANTS, i);
    if (!nst_decode_constant(&cursor, out)) {
        return stale(err, NST_CONSTANTS, i);
    }
    out->data = item_data(bundle, NST_CONSTANTS, i, out->section, out->offset, out->size, err);
    return out->data != NULL ? NST_OK : NST_E_CORRUPT;
}

int nst_read_program(const nst_bundle *bundle, uint32_t i, nst_program_info *out, nst_error *err) {
    nst_cursor cursor = nst_entry_at(bundle, NST_PROGRAMS, i);
    if (!nst_decode_program(&cursor, out)) {
        return stale(err, NST_PROGRAMS, i);
    }
    out->data = item_data(bundle, NST_PROGRAMS, i, out->section, out->offset, out->size, err);
    return out->data != NULL ? NST_OK : NST_E_CORRUPT;
}

int nst_read_stage(const nst_bundle *bundle, uint32_t i, nst_stage_info *out, nst_error *err) {
    nst_cursor cursor = nst_entry_at(bundle, NST_STAGES, i);
    uint32_t positions = bundle->count[NST_POSITIONS];
    if (!nst_decode_stage(&cursor, out)) {
        return stale(err, NST_STAGES, i);
    }
    out->inputs.below = bundle->count[NST_SLOTS];
    out->outputs.below = bundle->count[NST_SLOTS];
    out->bindings.below = bundle->count[NST_CONSTANTS];
    if (out->program >= bundle->count[NST_PROGRAMS]) {
        nst_fail_entry(err, NST_E_CORRUPT, NST_STAGES, i, bundle->count[NST_PROGRAMS], out->program,
                       NST_TEXT("the stage names a program that is not there"));
    } else if (out->last >= positions || out->first > out->last) {
        nst_fail_entry(err, NST_E_CORRUPT, NST_STAGES, i, positions, out->last,
                       NST_TEXT("the stage spans positions that are not there"));
    } else {
        return NST_OK;
    }
    nst_error_stage(err, out->name);
    return NST_E_CORRUPT;
}

int nst_read_path(const nst_bundle *bundle, uint32_t i, nst_path_info *out, nst_error *err) {
    nst_cursor cursor = nst_entry_at(bundle, NST_PATHS, i);
    if (!nst_decode_path(&cursor, out)) {
        return stale(err, NST_PATHS, i);
    }
    out->chain.below = bundle->count[NST_STAGES];
    if (out->fused != NST_NONE && out->fused >= bundle->count[NST_STAGES]) {
        return nst_fail_entry(err, NST_E_CORRUPT, NST_PATHS, i, bundle->count[NST_STAGES],
                              out->fused, NST_TEXT("the path names a stage that is not there"));
    }
    return NST_OK;
}

/* An error about stage `i` that also says its name. */
static int fail_stage(nst_error *err, uint32_t i, nst_text name, uint64_t expected, uint64_t actual,
                      const char *message) {
    nst_fail_entry(err, NST_E_CORRUPT, NST_STAGES, i, expected, actual, message);
    nst_error_stage(err, name);
    return NST_E_CORRUPT;
}

/* Slots exist, nothing writes an input, nothing is written twice by one call. */
static int check_slots(const nst_bundle *bundle, uint32_t i, nst_stage_info stage, nst_error *err) {
    uint8_t written[NST_MAX_SLOTS / 8] = {0};
    nst_slot_info info;
    uint32_t slot = 0;
    int code;
    while ((code = nst_list_next_index(&stage.inputs, &slot)) == NST_OK) {
    }
    if (code != NST_E_END) {
        return fail_stage(err, i, stage.name, bundle->count[NST_SLOTS], slot,
                          NST_TEXT("the stage reads a slot that is not there"));
    }
    while ((code = nst_list_next_index(&stage.outputs, &slot)) == NST_OK) {
        uint8_t bit = (uint8_t)(1u << (slot % 8));
        if (nst_bundle_slot(bundle, slot, &info) != NST_OK || info.role == NST_INPUT) {
            return fail_stage(err, i, stage.name, 0, slot,
                              NST_TEXT("the stage writes an input slot"));
        }
        if (nst_is_appended(bundle, slot)) {
            return fail_stage(err, i, stage.name, 0, slot,
                              NST_TEXT("the stage writes a slot that rows are appended to"));
        }
        if ((written[slot / 8] & bit) != 0) {
            return fail_stage(err, i, stage.name, 0, slot,
                              NST_TEXT("the stage writes a slot twice"));
        }
        written[slot / 8] |= bit;
    }
    if (code != NST_E_END) {
        return fail_stage(err, i, stage.name, bundle->count[NST_SLOTS], slot,
                          NST_TEXT("the stage writes a slot that is not there"));
    }
    return NST_OK;
}

/* Constants exist; the names that the program asks for ascend, so that each is there once. */
static int check_bindings(const nst_bundle *bundle, uint32_t i, nst_stage_info stage,
                          nst_error *err) {
    nst_text previous = {NULL, 0};
    nst_text name;
    nst_text key;
    uint32_t constant = 0;
    while (stage.bindings.count > 0) {
        bool renamed = nst_peek_major(&(nst_cursor){stage.bindings.at, stage.bindings.end}) == 4;
        if (nst_list_next_binding(bundle, &stage.bindings, &name, &constant) != NST_OK) {
            return fail_stage(err, i, stage.name, bundle->count[NST_CONSTANTS], constant,
                              NST_TEXT("the stage binds a constant that is not there"));
        }
        if (nst_text_compare(previous, name) >= 0) {
            return fail_stage(err, i, stage.name, 0, constant,
                              NST_TEXT("the names that the stage binds do not ascend"));
        }
        key = nst_entry_name(bundle, NST_CONSTANTS, constant);
        if (renamed && nst_text_compare(name, key) == 0) {
            return fail_stage(err, i, stage.name, 0, constant,
                              NST_TEXT("the stage renames a constant to its own key"));
        }
        previous = name;
    }
    return NST_OK;
}

static int check_path(const nst_bundle *bundle, uint32_t i, nst_path_info *path, nst_error *err) {
    nst_list chain = path->chain;
    nst_list costs = path->cost_us;
    nst_text name;
    uint32_t stage = 0;
    double cost;
    int code = nst_read_path(bundle, i, path, err);
    if (code != NST_OK) {
        return code;
    }
    chain = path->chain;
    while ((code = nst_list_next_index(&chain, &stage)) == NST_OK) {
    }
    if (code != NST_E_END) {
        return nst_fail_entry(err, NST_E_CORRUPT, NST_PATHS, i, bundle->count[NST_STAGES], stage,
                              NST_TEXT("the path names a stage that is not there"));
    }
    costs = path->cost_us;
    while (nst_list_next_figure(&costs, &name, &cost) == NST_OK) {
        if (cost < 0) {
            return nst_fail_entry(err, NST_E_CORRUPT, NST_PATHS, i, 0, 0,
                                  NST_TEXT("a cost of the path is negative"));
        }
    }
    code = nst_path_check_list(bundle, path->chain, NULL, err);
    if (code == NST_OK && path->fused != NST_NONE) {
        code = nst_path_check(bundle, &path->fused, 1, NULL, err);
    }
    if (code != NST_OK) {
        nst_error_entry(err, NST_PATHS, i);
    }
    return code;
}

/* Whether the entry has a member that version 1 of the format does not. */
static bool is_newer(const nst_bundle *bundle, nst_table table, uint32_t i) {
    nst_program_info program;
    nst_slot_info slot;
    nst_position_info position;
    switch (table) {
        case NST_PROGRAMS:
            return nst_bundle_program(bundle, i, &program) == NST_OK && program.target.bytes > 0;
        case NST_SLOTS:
            return nst_bundle_slot(bundle, i, &slot) == NST_OK && slot.append != NST_NONE;
        case NST_POSITIONS:
            return nst_bundle_position(bundle, i, &position) == NST_OK && position.part;
        default:
            return false;
    }
}

static int check_version(const nst_bundle *bundle, nst_error *err) {
    for (int table = 0; table < NST_TABLES && bundle->prefix.format_version < 2; table++) {
        for (uint32_t i = 0; i < bundle->count[table]; i++) {
            if (is_newer(bundle, (nst_table)table, i)) {
                return nst_fail_entry(
                    err, NST_E_CORRUPT, (nst_table)table, i, 2, bundle->prefix.format_version,
                    NST_TEXT("only format version 2 knows a member of this entry"));
            }
        }
    }
    return NST_OK;
}

int nst_check_references(const nst_bundle *bundle, nst_error *err) {
    nst_constant_info constant;
    nst_program_info program;
    nst_stage_info stage;
    nst_path_info path = {.macs = 0};
    uint64_t macs = 0;
    uint64_t weight_bytes = 0;
    int code = check_version(bundle, err);
    for (uint32_t i = 0; code == NST_OK && i < bundle->count[NST_CONSTANTS]; i++) {
        code = nst_read_constant(bundle, i, &constant, err);
    }
    for (uint32_t i = 0; code == NST_OK && i < bundle->count[NST_PROGRAMS]; i++) {
        code = nst_read_program(bundle, i, &program, err);
    }
    if (code == NST_OK) {
        code = nst_check_appends(bundle, err);
    }
    for (uint32_t i = 0; code == NST_OK && i < bundle->count[NST_STAGES]; i++) {
        code = nst_read_stage(bundle, i, &stage, err);
        if (code == NST_OK) {
            code = check_slots(bundle, i, stage, err);
        }
        if (code == NST_OK) {
            code = check_bindings(bundle, i, stage, err);
        }
    }
    if (code == NST_OK) {
        code = nst_check_targets(bundle, err);
    }
    for (uint32_t i = 0; code == NST_OK && i < bundle->count[NST_PATHS]; i++) {
        code = check_path(bundle, i, &path, err);
        if (code == NST_OK &&
            (path.macs < macs || (path.macs == macs && path.weight_bytes < weight_bytes))) {
            code = nst_fail_entry(err, NST_E_CORRUPT, NST_PATHS, i, macs, path.macs,
                                  NST_TEXT("the paths do not ascend by macs, then weight_bytes"));
        }
        macs = path.macs;
        weight_bytes = path.weight_bytes;
    }
    return code;
}
