/* Reading the lists of the manifest, one element a call. */
#include "bundle.h"
#include "cbor.h"
#include "manifest.h"
#include "reader.h"

/* Start on the next element; false when none is left. */
static bool next(nst_list *list, nst_cursor *out) {
    if (list->count == 0) {
        return false;
    }
    list->count--;
    *out = (nst_cursor){list->at, list->end};
    return true;
}

/* Close the list for good: its bytes are no longer what they were when the bundle was opened. */
static int changed(nst_list *list) {
    list->count = 0;
    return NST_E_CORRUPT;
}

int nst_list_next_index(nst_list *list, uint32_t *out_index) {
    nst_cursor cursor;
    if (!next(list, &cursor)) {
        return NST_E_END;
    }
    if (!nst_take_u32(&cursor, out_index) || *out_index >= list->below) {
        return changed(list);
    }
    list->at = cursor.at;
    return NST_OK;
}

int nst_list_next_binding(const nst_bundle *bundle, nst_list *list, nst_text *out_name,
                          uint32_t *out_constant) {
    nst_cursor cursor;
    if (!next(list, &cursor)) {
        return NST_E_END;
    }
    if (!nst_take_binding(&cursor, out_name, out_constant) || *out_constant >= list->below) {
        return changed(list);
    }
    if (out_name->bytes == 0) {
        *out_name = nst_entry_name(bundle, NST_CONSTANTS, *out_constant);
    }
    list->at = cursor.at;
    return NST_OK;
}

int nst_list_next_figure(nst_list *list, nst_text *out_name, double *out_value) {
    nst_cursor cursor;
    if (!next(list, &cursor)) {
        return NST_E_END;
    }
    if (!nst_take_name(&cursor, out_name) || !nst_take_float(&cursor, out_value)) {
        return changed(list);
    }
    list->at = cursor.at;
    return NST_OK;
}

static bool take_note(nst_cursor *cursor, nst_note *out) {
    uint8_t lead = nst_peek_byte(cursor);
    switch (nst_peek_major(cursor)) {
        case 0:
            out->type = NST_NOTE_UINT;
            return nst_take_u64(cursor, &out->uint_value);
        case 1:
            out->type = NST_NOTE_INT;
            return nst_take_negative(cursor, &out->int_value);
        case 3:
            out->type = NST_NOTE_TEXT;
            return nst_take_text(cursor, &out->text);
        case 7:
            if (lead == 0xF4 || lead == 0xF5) {
                out->type = NST_NOTE_BOOL;
                return nst_take_bool(cursor, &out->boolean);
            }
            if (lead == 0xF6) {
                out->type = NST_NOTE_NULL;
                return nst_take_null(cursor);
            }
            out->type = NST_NOTE_FLOAT;
            return nst_take_float(cursor, &out->float_value);
        default:
            return false;
    }
}

int nst_list_next_note(nst_list *list, nst_note *out) {
    nst_cursor cursor;
    if (!next(list, &cursor)) {
        return NST_E_END;
    }
    *out = (nst_note){.type = NST_NOTE_NULL};
    if (!nst_take_name(&cursor, &out->name) || !take_note(&cursor, out)) {
        return changed(list);
    }
    list->at = cursor.at;
    return NST_OK;
}
