#include "path.h"

#include "reader.h"
#include "sentence.h"
#include "text.h"

/* What a path has done up to some stage of it. */
typedef struct nst_walk {
    const nst_bundle *bundle;
    uint8_t written[NST_MAX_SLOTS / 8]; /* one bit a slot */
    uint32_t covered;                   /* positions below this one are behind us */
    bool begun; /* the first position of the block that we are in was covered */
    bool wrote_output;
} nst_walk;

static bool is_written(const nst_walk *walk, uint32_t slot) {
    return (walk->written[slot / 8] & (1u << (slot % 8))) != 0;
}

static void mark_written(nst_walk *walk, uint32_t slot) {
    walk->written[slot / 8] |= (uint8_t)(1u << (slot % 8));
}

/* Go past positions [from, to), which the path covers or skips. The first that does not allow it, or
 * NST_NONE. */
static uint32_t pass(nst_walk *walk, uint32_t from, uint32_t to, bool covers,
                     nst_path_report *report) {
    for (uint32_t i = from; i < to; i++) {
        nst_position_info position;
        if (nst_bundle_position(walk->bundle, i, &position) != NST_OK) {
            report->fault = NST_PATH_CHANGED;
            return i;
        }
        walk->begun = position.part ? walk->begun : covers;
        if (covers && !walk->begun) {
            report->fault = NST_PATH_PART;
            return i;
        }
        if (!covers && position.required && (walk->begun || !position.part)) {
            report->fault = NST_PATH_UNCOVERED;
            return i;
        }
    }
    return NST_NONE;
}

/* Whether all slots that a stage reads hold something by now. */
static bool read_slots(const nst_walk *walk, nst_list slots, nst_path_report *report) {
    nst_slot_info info;
    uint32_t slot;
    int code;
    while ((code = nst_list_next_index(&slots, &slot)) == NST_OK) {
        if (is_written(walk, slot)) {
            continue;
        }
        code = nst_bundle_slot(walk->bundle, slot, &info);
        if (code != NST_OK) {
            break;
        }
        if (info.role != NST_INPUT && info.role != NST_STATE) {
            report->fault = NST_PATH_UNWRITTEN;
            report->slot = slot;
            return false;
        }
    }
    report->fault = code == NST_E_END ? NST_PATH_LEGAL : NST_PATH_CHANGED;
    return code == NST_E_END;
}

static bool write_slots(nst_walk *walk, nst_list slots, nst_path_report *report) {
    nst_slot_info info;
    uint32_t slot;
    int code;
    while ((code = nst_list_next_index(&slots, &slot)) == NST_OK) {
        if (is_written(walk, slot)) {
            continue;
        }
        code = nst_bundle_slot(walk->bundle, slot, &info);
        if (code != NST_OK) {
            break;
        }
        mark_written(walk, slot);
        walk->wrote_output = walk->wrote_output || info.role == NST_OUTPUT;
    }
    report->fault = code == NST_E_END ? NST_PATH_LEGAL : NST_PATH_CHANGED;
    return code == NST_E_END;
}

/* Take the next stage of the path; fills the report and returns false where it cannot follow. */
static bool step(nst_walk *walk, uint32_t at, uint32_t stage, nst_path_report *report) {
    const nst_bundle *bundle = walk->bundle;
    nst_stage_info info;
    report->at = at;
    report->stage = stage;
    if (stage >= bundle->count[NST_STAGES]) {
        report->fault = NST_PATH_NO_STAGE;
        return false;
    }
    nst_cursor cursor = nst_entry_at(bundle, NST_STAGES, stage);
    if (!nst_decode_stage_head(&cursor, &info) || info.last < info.first ||
        info.last >= bundle->count[NST_POSITIONS]) {
        report->fault = NST_PATH_CHANGED;
        return false;
    }
    info.inputs.below = bundle->count[NST_SLOTS];
    info.outputs.below = bundle->count[NST_SLOTS];
    if (info.first < walk->covered) {
        report->fault = NST_PATH_OVERLAP;
        report->position = info.first;
        return false;
    }
    report->position = pass(walk, walk->covered, info.first, false, report);
    if (report->position != NST_NONE) {
        return false;
    }
    walk->covered = info.last + 1; /* last < NST_MAX_POSITIONS */
    report->position = pass(walk, info.first, walk->covered, true, report);
    if (report->position != NST_NONE) {
        return false;
    }
    return read_slots(walk, info.inputs, report) && write_slots(walk, info.outputs, report);
}

static bool finish(nst_walk *walk, uint32_t count, nst_path_report *report) {
    report->at = count;
    report->stage = NST_NONE;
    report->position = pass(walk, walk->covered, walk->bundle->count[NST_POSITIONS], false, report);
    if (report->position != NST_NONE) {
        return false;
    }
    if (!walk->wrote_output) {
        report->fault = NST_PATH_NO_OUTPUT;
        return false;
    }
    report->at = NST_NONE;
    return true;
}

static void say(const nst_bundle *bundle, const nst_path_report *report, nst_error *err) {
    nst_stage_info stage = {.name = {NULL, 0}};
    nst_position_info position = {.name = {NULL, 0}};
    nst_slot_info slot = {.name = {NULL, 0}};
    nst_writer writer;
    (void)nst_bundle_stage(bundle, report->stage, &stage);
    (void)nst_bundle_position(bundle, report->position, &position);
    (void)nst_bundle_slot(bundle, report->slot, &slot);
    nst_error_stage(err, stage.name);
    nst_writer_start(&writer, err->message, sizeof err->message);
    switch (report->fault) {
        case NST_PATH_LEGAL:
            break;
        case NST_PATH_EMPTY:
            nst_write(&writer, NST_TEXT("the path has no stage"));
            break;
        case NST_PATH_NO_STAGE:
            nst_write(&writer, NST_TEXT("the bundle has no stage "));
            nst_write_number(&writer, report->stage);
            err->expected = bundle->count[NST_STAGES];
            err->actual = report->stage;
            break;
        case NST_PATH_OVERLAP:
            nst_write(&writer, NST_TEXT("the stage starts at position '"));
            nst_write_text(&writer, position.name);
            nst_write(&writer, NST_TEXT("', which the path has already passed"));
            break;
        case NST_PATH_UNCOVERED:
            nst_write(&writer, NST_TEXT("the path skips position '"));
            nst_write_text(&writer, position.name);
            nst_write(&writer, NST_TEXT("', which it needs"));
            if (report->stage == NST_NONE) {
                nst_error_stage(err, position.name);
            }
            break;
        case NST_PATH_UNWRITTEN:
            nst_write(&writer, NST_TEXT("the stage reads '"));
            nst_write_text(&writer, slot.name);
            nst_write(&writer, NST_TEXT("', which no stage before it writes"));
            break;
        case NST_PATH_NO_OUTPUT:
            nst_write(&writer, NST_TEXT("the path writes no output"));
            break;
        case NST_PATH_PART:
            nst_write(&writer, NST_TEXT("the stage covers position '"));
            nst_write_text(&writer, position.name);
            nst_write(&writer, NST_TEXT("', part of a block that the path leaves out"));
            break;
        case NST_PATH_CHANGED:
            nst_write(&writer, NST_TEXT("the bundle changed after it was opened"));
            break;
    }
}

/* The one walk behind both public functions: from `chain`, or from `list` where `chain` is null. */
static int check(const nst_bundle *bundle, const uint32_t *chain, size_t count, nst_list list,
                 nst_path_report *out_report, nst_error *err) {
    nst_path_report report = {NST_PATH_LEGAL, NST_NONE, NST_NONE, NST_NONE, NST_NONE};
    nst_walk walk = {.bundle = bundle};
    bool legal = count > 0;
    if (!legal) {
        report.fault = NST_PATH_EMPTY;
    }
    for (uint32_t at = 0; legal && at < count; at++) {
        uint32_t stage = 0;
        if (chain != NULL) {
            stage = chain[at];
        } else if (nst_list_next_index(&list, &stage) != NST_OK) {
            report.fault = NST_PATH_CHANGED;
            legal = false;
            break;
        }
        legal = step(&walk, at, stage, &report);
    }
    if (legal) {
        legal = finish(&walk, (uint32_t)count, &report);
    }
    if (out_report != NULL) {
        *out_report = report;
    }
    if (legal) {
        return NST_OK;
    }
    int code = report.fault == NST_PATH_CHANGED ? NST_E_CORRUPT : NST_E_PATH;
    nst_fail(err, code, NULL, NULL, 0, 0, NULL);
    if (err != NULL) {
        say(bundle, &report, err);
    }
    return code;
}

int nst_path_check(const nst_bundle *bundle, const uint32_t *chain, size_t count,
                   nst_path_report *report, nst_error *err) {
    if (bundle == NULL || (chain == NULL && count > 0)) {
        return nst_fail(err, NST_E_ARGUMENT, NULL, NULL, 0, 0, NST_TEXT("bundle or chain is null"));
    }
    /* Spans ascend strictly, so a longer list cannot be legal; cut it where the walk must have
     * failed. */
    if (count > (size_t)NST_MAX_POSITIONS + 1) {
        count = (size_t)NST_MAX_POSITIONS + 1;
    }
    static const uint32_t nothing;
    return check(bundle, chain == NULL ? &nothing : chain, count, (nst_list){NULL, NULL, 0, 0},
                 report, err);
}

int nst_path_check_list(const nst_bundle *bundle, nst_list chain, nst_path_report *report,
                        nst_error *err) {
    if (bundle == NULL) {
        return nst_fail(err, NST_E_ARGUMENT, NULL, NULL, 0, 0, NST_TEXT("bundle is null"));
    }
    return check(bundle, NULL, chain.count, chain, report, err);
}
