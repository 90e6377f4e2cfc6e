/* Slots whose content is the next rows of a state slot, such as keys that go into a cache. */
#include "error.h"
#include "reader.h"
#include "sentence.h"

/* Whether `rows` has the shape of some rows of `state`. */
static bool fits(const nst_slot_info *rows, const nst_slot_info *state) {
    if (rows->role != NST_INTERNAL || state->role != NST_STATE || rows->dtype != state->dtype ||
        rows->rank != state->rank || rows->rank == 0 || rows->shape[0] > state->shape[0]) {
        return false;
    }
    for (uint32_t i = 1; i < rows->rank; i++) {
        if (rows->shape[i] != state->shape[i]) {
            return false;
        }
    }
    return true;
}

bool nst_is_appended(const nst_bundle *bundle, uint32_t slot) {
    nst_slot_info info;
    if (nst_bundle_slot(bundle, slot, &info) != NST_OK || info.role != NST_STATE) {
        return false;
    }
    for (uint32_t i = 0; i < bundle->count[NST_SLOTS]; i++) {
        if (nst_bundle_slot(bundle, i, &info) == NST_OK && info.append == slot) {
            return true;
        }
    }
    return false;
}

int nst_check_appends(const nst_bundle *bundle, nst_error *err) {
    for (uint32_t i = 0; i < bundle->count[NST_SLOTS]; i++) {
        nst_slot_info rows;
        nst_slot_info state;
        if (nst_bundle_slot(bundle, i, &rows) != NST_OK) {
            return nst_fail_entry(err, NST_E_CORRUPT, NST_SLOTS, i, 0, 0,
                                  NST_TEXT("the manifest changed while it was read"));
        }
        if (rows.append == NST_NONE) {
            continue;
        }
        if (nst_bundle_slot(bundle, rows.append, &state) != NST_OK) {
            return nst_fail_entry(err, NST_E_CORRUPT, NST_SLOTS, i, bundle->count[NST_SLOTS],
                                  rows.append,
                                  NST_TEXT("the slot is rows of a slot that is not there"));
        }
        if (!fits(&rows, &state)) {
            return nst_fail_entry(err, NST_E_CORRUPT, NST_SLOTS, i, 0, rows.append,
                                  NST_TEXT("the slot does not fit the state that it is rows of"));
        }
    }
    return NST_OK;
}
