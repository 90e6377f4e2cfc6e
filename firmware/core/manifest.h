/* From the CBOR of one table entry to the structs of bundle.h. Internal to the reader.
 *
 * Decoding checks everything that the entry alone can tell: its encoding, its names, its own
 * numbers. Whether its indexes point at something is the business of bundle_check.c. */
#ifndef NESTLING_CORE_MANIFEST_H
#define NESTLING_CORE_MANIFEST_H

#include "bundle.h"
#include "cbor.h"

/* Each takes one entry and leaves the cursor behind it. `out->data`, where there is one, stays
 * null. */
bool nst_decode_section(nst_cursor *cursor, nst_section_info *out);
bool nst_decode_slot(nst_cursor *cursor, nst_slot_info *out);
bool nst_decode_constant(nst_cursor *cursor, nst_constant_info *out);
bool nst_decode_program(nst_cursor *cursor, nst_program_info *out);
bool nst_decode_position(nst_cursor *cursor, nst_position_info *out);
bool nst_decode_stage(nst_cursor *cursor, nst_stage_info *out);
bool nst_decode_path(nst_cursor *cursor, nst_path_info *out);

/* The first half of a stage, up to its slots: what a path needs, without the bindings, which may be
 * long. The other fields of `out` are left alone, and the cursor is then inside the entry. */
bool nst_decode_stage_head(nst_cursor *cursor, nst_stage_info *out);

/* Take an entry of any table, and keep nothing but its name (constants: the key; programs: the
 * method). The name is only set where the entry is taken. */
bool nst_decode_entry(nst_table table, nst_cursor *cursor, nst_text *out_name);

/* A map of free notes; checks each and gives the list. */
bool nst_decode_notes(nst_cursor *cursor, nst_list *out);

/* One element of `bindings`. `out_name` is empty where the program asks by the constant's key. */
bool nst_take_binding(nst_cursor *cursor, nst_text *out_name, uint32_t *out_constant);

#endif
