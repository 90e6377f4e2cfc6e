#include "manifest.h"

#include <manifest_decode.h>
#include <string.h>

#include "checked.h"
#include "text.h"

/* The generated decoders number the alternatives of the CDDL in order; bundle.h does the same. */
_Static_assert((int)NST_PROGRAM == (int)content_program_tstr_c, "section kinds");
_Static_assert((int)NST_DATA == (int)content_data_tstr_c, "section kinds");
_Static_assert((int)NST_F32 == (int)dtype_f32_tstr_c, "dtypes");
_Static_assert((int)NST_BOOL == (int)dtype_bool_tstr_c, "dtypes");
_Static_assert((int)NST_INPUT == (int)role_input_tstr_c, "roles");
_Static_assert((int)NST_INTERNAL == (int)role_internal_tstr_c, "roles");

/* Run one generated decoder on the bytes ahead. */
#define TAKE(cursor, type, out)                                                                   \
    size_t used = 0;                                                                              \
    if (cbor_decode_##type((cursor)->at, (size_t)((cursor)->end - (cursor)->at), (out), &used) != \
        0) {                                                                                      \
        return false;                                                                             \
    }                                                                                             \
    (cursor)->at += used

static bool name_of(struct zcbor_string from, nst_text *out) {
    out->data = (const char *)from.value;
    out->bytes = from.len;
    return nst_text_is_name(*out);
}

size_t nst_dtype_bytes(nst_dtype dtype) {
    static const uint8_t bytes[] = {4, 2, 8, 4, 1, 1, 1};
    return (size_t)dtype < sizeof bytes ? bytes[dtype] : 0;
}

/* Bytes of a tensor; false where a dimension is 0 or the product does not fit. */
static bool tensor_bytes(nst_dtype dtype, const uint32_t *shape, size_t rank, uint64_t *out) {
    uint64_t bytes = nst_dtype_bytes(dtype);
    for (size_t i = 0; i < rank; i++) {
        if (shape[i] == 0 || !nst_mul_u64(bytes, shape[i], &bytes)) {
            return false;
        }
    }
    *out = bytes;
    return true;
}

bool nst_decode_section(nst_cursor *cursor, nst_section_info *out) {
    struct section entry;
    TAKE(cursor, section, &entry);
    out->kind = (nst_section_kind)entry.section_kind.content_choice;
    out->size = entry.section_size;
    out->offset = entry.section_offset;
    out->sha256 = entry.section_sha256.value;
    out->has_level = entry.section_level_present;
    out->level = out->has_level ? entry.section_level.section_level : 0;
    return name_of(entry.section_name, &out->name) && out->size >= 1 &&
           (!out->has_level || out->kind == NST_BLOB);
}

bool nst_decode_slot(nst_cursor *cursor, nst_slot_info *out) {
    struct slot entry;
    TAKE(cursor, slot, &entry);
    out->role = (nst_role)entry.slot_role.role_choice;
    out->dtype = (nst_dtype)entry.slot_dtype.dtype_choice;
    out->rank = (uint32_t)entry.slot_shape_dim_m_count;
    memset(out->shape, 0, sizeof out->shape);
    memcpy(out->shape, entry.slot_shape_dim_m, out->rank * sizeof out->shape[0]);
    out->append = entry.slot_append_present ? entry.slot_append.slot_append : NST_NONE;
    return name_of(entry.slot_name, &out->name) &&
           tensor_bytes(out->dtype, out->shape, out->rank, &out->bytes);
}

/* Fill the layout of a constant; false unless its bytes are `size` and dim_order is a permutation.
 */
static bool layout_of(const struct constant *entry, nst_constant_info *out) {
    uint64_t bytes = 0;
    uint32_t seen = 0;
    out->dtype = (nst_dtype)entry->constant_dtype.constant_dtype.dtype_choice;
    out->rank = (uint32_t)entry->constant_shape.constant_shape_dim_m_count;
    if (entry->constant_dim_order.constant_dim_order_dim_m_count != out->rank) {
        return false;
    }
    for (uint32_t i = 0; i < out->rank; i++) {
        uint32_t dim = entry->constant_dim_order.constant_dim_order_dim_m[i];
        if (dim >= out->rank || (seen & (1u << dim)) != 0) {
            return false;
        }
        seen |= 1u << dim;
        out->dim_order[i] = (uint8_t)dim;
        out->shape[i] = entry->constant_shape.constant_shape_dim_m[i];
    }
    return tensor_bytes(out->dtype, out->shape, out->rank, &bytes) && bytes == out->size;
}

bool nst_decode_constant(nst_cursor *cursor, nst_constant_info *out) {
    struct constant entry;
    TAKE(cursor, constant, &entry);
    memset(out, 0, sizeof *out);
    out->section = entry.constant_section;
    out->offset = entry.constant_offset;
    out->size = entry.constant_size;
    out->has_layout = entry.constant_dtype_present;
    if (!name_of(entry.constant_key, &out->key) || out->size == 0 ||
        entry.constant_shape_present != out->has_layout ||
        entry.constant_dim_order_present != out->has_layout) {
        return false;
    }
    return !out->has_layout || layout_of(&entry, out);
}

bool nst_decode_program(nst_cursor *cursor, nst_program_info *out) {
    struct program entry;
    TAKE(cursor, program, &entry);
    out->section = entry.program_section;
    out->offset = entry.program_offset;
    out->size = entry.program_size;
    out->data = NULL;
    out->target = (nst_text){NULL, 0};
    if (entry.program_target_present &&
        !name_of(entry.program_target.program_target, &out->target)) {
        return false;
    }
    out->unpacked_bytes =
        entry.program_unpacked_present ? entry.program_unpacked.program_unpacked : 0;
    if (entry.program_unpacked_present &&
        (out->unpacked_bytes == 0 || out->unpacked_bytes > NST_MAX_UNPACKED_BYTES)) {
        return false;
    }
    return name_of(entry.program_method, &out->method) && out->size >= 1;
}

bool nst_decode_position(nst_cursor *cursor, nst_position_info *out) {
    struct position entry;
    TAKE(cursor, position, &entry);
    out->layer = entry.position_layer;
    out->required = entry.position_required;
    out->part = entry.position_part_present;
    if (out->part && !entry.position_part.position_part) {
        return false; /* said by saying nothing */
    }
    return name_of(entry.position_name, &out->name);
}

/* A list of indexes; ranges are checked later, when the sizes of all tables are known. */
static bool decode_indexes(nst_cursor *cursor, nst_list *out) {
    uint32_t ignored;
    uint32_t count = 0;
    if (!nst_take_list(cursor, &count)) {
        return false;
    }
    out->at = cursor->at;
    out->count = count;
    out->below = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!nst_take_u32(cursor, &ignored)) {
            return false;
        }
    }
    out->end = cursor->at;
    return true;
}

bool nst_take_binding(nst_cursor *cursor, nst_text *out_name, uint32_t *out_constant) {
    uint32_t count = 0;
    *out_name = (nst_text){NULL, 0};
    if (nst_peek_major(cursor) == 0) {
        return nst_take_u32(cursor, out_constant);
    }
    return nst_take_list(cursor, &count) && count == 2 && nst_take_name(cursor, out_name) &&
           nst_take_u32(cursor, out_constant);
}

static bool decode_bindings(nst_cursor *cursor, nst_list *out) {
    nst_text name;
    uint32_t constant;
    uint32_t count = 0;
    if (!nst_take_list(cursor, &count)) {
        return false;
    }
    out->at = cursor->at;
    out->count = count;
    out->below = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!nst_take_binding(cursor, &name, &constant)) {
            return false;
        }
    }
    out->end = cursor->at;
    return true;
}

/* One member of a map whose value is a number or a name. */
static bool member_u32(nst_cursor *cursor, const char *key, uint32_t *out) {
    return nst_take_key(cursor, key) && nst_take_u32(cursor, out);
}

static bool member_u64(nst_cursor *cursor, const char *key, uint64_t *out) {
    return nst_take_key(cursor, key) && nst_take_u64(cursor, out);
}

static bool member_name(nst_cursor *cursor, const char *key, nst_text *out) {
    return nst_take_key(cursor, key) && nst_take_name(cursor, out);
}

bool nst_decode_stage_head(nst_cursor *cursor, nst_stage_info *out) {
    uint32_t members = 0;
    return nst_take_map(cursor, &members) && members == 11 &&
           member_u32(cursor, "bits", &out->bits) && out->bits >= 1 && out->bits <= 64 &&
           member_u32(cursor, "last", &out->last) && member_u64(cursor, "macs", &out->macs) &&
           member_name(cursor, "name", &out->name) && member_u32(cursor, "first", &out->first) &&
           member_u32(cursor, "level", &out->level) && nst_take_key(cursor, "inputs") &&
           decode_indexes(cursor, &out->inputs) && nst_take_key(cursor, "outputs") &&
           decode_indexes(cursor, &out->outputs) && out->outputs.count >= 1;
}

bool nst_decode_stage(nst_cursor *cursor, nst_stage_info *out) {
    return nst_decode_stage_head(cursor, out) && member_u32(cursor, "program", &out->program) &&
           nst_take_key(cursor, "bindings") && decode_bindings(cursor, &out->bindings) &&
           member_u64(cursor, "arena_bytes", &out->arena_bytes);
}

/* A map of names to numbers, its keys in canonical order and therefore unique. */
static bool decode_figures(nst_cursor *cursor, nst_list *out) {
    nst_text previous = {NULL, 0};
    uint32_t count = 0;
    if (!nst_take_map(cursor, &count)) {
        return false;
    }
    out->at = cursor->at;
    out->count = count;
    out->below = 0;
    for (uint32_t i = 0; i < count; i++) {
        nst_text name;
        double value;
        if (!nst_take_name(cursor, &name) || nst_text_compare_canonical(previous, name) >= 0 ||
            !nst_take_float(cursor, &value)) {
            return false;
        }
        previous = name;
    }
    out->end = cursor->at;
    return true;
}

/* Whether the next key is `key`; takes it if so. A key that is neither this nor the one expected
 * after it fails there. */
static bool take_optional_key(nst_cursor *cursor, const char *key, uint32_t *members) {
    nst_cursor ahead = *cursor;
    if (!nst_take_key(&ahead, key)) {
        return false;
    }
    *cursor = ahead;
    *members -= 1;
    return true;
}

bool nst_decode_path(nst_cursor *cursor, nst_path_info *out) {
    uint32_t members = 0;
    out->fused = NST_NONE;
    if (!nst_take_map(cursor, &members) || !member_u64(cursor, "macs", &out->macs) ||
        !member_name(cursor, "name", &out->name) || !nst_take_key(cursor, "chain") ||
        !decode_indexes(cursor, &out->chain) || out->chain.count < 1) {
        return false;
    }
    if (take_optional_key(cursor, "fused", &members) &&
        (!nst_take_u32(cursor, &out->fused) || out->fused == NST_NONE)) {
        return false;
    }
    out->cost_us = (nst_list){cursor->at, cursor->at, 0, 0};
    if (take_optional_key(cursor, "cost_us", &members) && !decode_figures(cursor, &out->cost_us)) {
        return false;
    }
    return members == 6 && nst_take_key(cursor, "quality") &&
           decode_figures(cursor, &out->quality) &&
           member_u64(cursor, "parameters", &out->parameters) &&
           member_u64(cursor, "weight_bytes", &out->weight_bytes);
}

bool nst_decode_entry(nst_table table, nst_cursor *cursor, nst_text *out_name) {
    union {
        nst_section_info section;
        nst_slot_info slot;
        nst_constant_info constant;
        nst_program_info program;
        nst_position_info position;
        nst_stage_info stage;
        nst_path_info path;
    } entry;
    bool taken = false;
    switch (table) {
        case NST_SECTIONS:
            taken = nst_decode_section(cursor, &entry.section);
            *out_name = entry.section.name;
            break;
        case NST_SLOTS:
            taken = nst_decode_slot(cursor, &entry.slot);
            *out_name = entry.slot.name;
            break;
        case NST_CONSTANTS:
            taken = nst_decode_constant(cursor, &entry.constant);
            *out_name = entry.constant.key;
            break;
        case NST_PROGRAMS:
            taken = nst_decode_program(cursor, &entry.program);
            *out_name = entry.program.method;
            break;
        case NST_POSITIONS:
            taken = nst_decode_position(cursor, &entry.position);
            *out_name = entry.position.name;
            break;
        case NST_STAGES:
            taken = nst_decode_stage(cursor, &entry.stage);
            *out_name = entry.stage.name;
            break;
        case NST_PATHS:
            taken = nst_decode_path(cursor, &entry.path);
            *out_name = entry.path.name;
            break;
        case NST_TABLES:
            break;
    }
    return taken;
}

bool nst_decode_notes(nst_cursor *cursor, nst_list *out) {
    nst_text previous = {NULL, 0};
    nst_note note;
    uint32_t count = 0;
    if (!nst_take_map(cursor, &count)) {
        return false;
    }
    *out = (nst_list){cursor->at, cursor->end, count, 0};
    nst_list walk = *out;
    while (walk.count > 0) {
        if (nst_list_next_note(&walk, &note) != NST_OK ||
            nst_text_compare_canonical(previous, note.name) >= 0) {
            return false;
        }
        previous = note.name;
    }
    cursor->at = walk.at;
    out->end = walk.at;
    return true;
}
