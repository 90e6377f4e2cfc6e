#include "targets.h"

#include <string.h>

#include "reader.h"
#include "sentence.h"
#include "text.h"

enum { MARK = '@' }; /* between a stage's name and its target */

static bool same(nst_text a, nst_text b) {
    return nst_text_compare(a, b) == 0;
}

/* The targets that programs name, in the order in which they do. */
typedef struct nst_named_targets {
    nst_text names[NST_MAX_TARGETS]; /* the bundle's own first */
    uint32_t count;
    uint32_t full_at; /* program that names one too many, or NST_NONE */
    bool own;         /* some program is for the bundle's own */
} nst_named_targets;

static int list_targets(const nst_bundle *bundle, nst_named_targets *out) {
    nst_program_info program;
    out->names[0] = bundle->info.target;
    out->count = 1;
    out->full_at = NST_NONE;
    out->own = false;
    for (uint32_t i = 0; i < bundle->count[NST_PROGRAMS]; i++) {
        uint32_t known = 0;
        int code = nst_bundle_program(bundle, i, &program);
        if (code != NST_OK) {
            return code;
        }
        if (program.target.bytes == 0) {
            out->own = true;
            continue;
        }
        while (known < out->count && !same(out->names[known], program.target)) {
            known++;
        }
        if (known == NST_MAX_TARGETS) {
            out->full_at = i;
            return NST_OK;
        }
        if (known == out->count) {
            out->names[out->count++] = program.target;
        }
    }
    return NST_OK;
}

uint32_t nst_bundle_target_count(const nst_bundle *bundle) {
    nst_named_targets named;
    return bundle != NULL && list_targets(bundle, &named) == NST_OK ? named.count : 0;
}

int nst_bundle_target(const nst_bundle *bundle, uint32_t i, nst_text *out) {
    nst_named_targets named;
    if (bundle == NULL || out == NULL || list_targets(bundle, &named) != NST_OK ||
        i >= named.count) {
        return NST_E_NOT_FOUND;
    }
    *out = named.names[i];
    return NST_OK;
}

int nst_bundle_stage_target(const nst_bundle *bundle, uint32_t stage, nst_text *out) {
    nst_stage_info info;
    nst_program_info program;
    int code = out == NULL ? NST_E_NOT_FOUND : nst_bundle_stage(bundle, stage, &info);
    if (code == NST_OK) {
        code = nst_bundle_program(bundle, info.program, &program);
    }
    if (code == NST_OK) {
        *out = program.target.bytes > 0 ? program.target : bundle->info.target;
    }
    return code;
}

/* Cut "@target" off a stage's name; false where it does not end so, or nothing is left. */
static bool strip(nst_text *name, nst_text target) {
    size_t tail = target.bytes + 1;
    if (name->bytes <= tail) {
        return false;
    }
    const char *mark = name->data + (name->bytes - tail);
    if (*mark != MARK || memcmp(mark + 1, target.data, target.bytes) != 0) {
        return false;
    }
    name->bytes -= tail;
    return true;
}

/* The stage `name` if it is for `target`, otherwise NST_NONE. */
static uint32_t find_for(const nst_bundle *bundle, nst_text name, nst_text target) {
    nst_text found;
    uint32_t stage = nst_bundle_find(bundle, NST_STAGES, name.data, name.bytes);
    if (stage == NST_NONE || nst_bundle_stage_target(bundle, stage, &found) != NST_OK ||
        !same(found, target)) {
        return NST_NONE;
    }
    return stage;
}

uint32_t nst_bundle_stand_in(const nst_bundle *bundle, uint32_t stage, const char *target,
                             size_t bytes) {
    char longer[NST_MAX_NAME_BYTES];
    nst_text wanted = {target, bytes};
    nst_text own;
    if (bundle == NULL || target == NULL ||
        nst_bundle_stage_target(bundle, stage, &own) != NST_OK) {
        return NST_NONE;
    }
    nst_text name = nst_entry_name(bundle, NST_STAGES, stage);
    if (same(own, wanted)) {
        return stage;
    }
    if (!same(own, bundle->info.target) && !strip(&name, own)) {
        return NST_NONE;
    }
    if (same(wanted, bundle->info.target)) {
        return find_for(bundle, name, wanted);
    }
    if (bytes + 1 > sizeof longer || name.bytes > sizeof longer - bytes - 1) {
        return NST_NONE;
    }
    memcpy(longer, name.data, name.bytes);
    longer[name.bytes] = MARK;
    memcpy(longer + name.bytes + 1, target, bytes);
    return find_for(bundle, (nst_text){longer, name.bytes + 1 + bytes}, wanted);
}

/* Whether two stages agree in all that a path sees of them. There is one encoding of everything, so
 * equal values are equal bytes: what stands between the bits and the name (last, macs) and what
 * stands behind it, up to the program (first, level, inputs, outputs). */
static bool agree(const nst_bundle *bundle, uint32_t a, uint32_t b) {
    uint32_t numbers[2] = {a, b};
    nst_text before[2];
    nst_text behind[2];
    for (int i = 0; i < 2; i++) {
        nst_stage_info info;
        nst_cursor cursor = nst_entry_at(bundle, NST_STAGES, numbers[i]);
        nst_cursor ahead = cursor;
        uint32_t members;
        if (!nst_decode_stage_head(&cursor, &info) || !nst_take_map(&ahead, &members) ||
            !nst_take_key(&ahead, "bits") || !nst_take_u32(&ahead, &members)) {
            return false;
        }
        const char *start = (const char *)ahead.at;
        const char *text_end = info.name.data + info.name.bytes;
        /* A name's head is one byte, two from 24 bytes on. */
        const char *text = info.name.data - (info.name.bytes < 24 ? 1 : 2);
        before[i] = (nst_text){start, (size_t)(text - start)};
        behind[i] = (nst_text){text_end, (size_t)((const char *)info.outputs.end - text_end)};
    }
    return same(before[0], before[1]) && same(behind[0], behind[1]);
}

static int check_programs(const nst_bundle *bundle, bool *several, nst_error *err) {
    nst_program_info program;
    nst_named_targets named;
    *several = false;
    for (uint32_t i = 0; i < bundle->count[NST_PROGRAMS]; i++) {
        int code = nst_read_program(bundle, i, &program, err);
        if (code != NST_OK) {
            return code;
        }
        if (program.target.bytes == 0) {
            continue;
        }
        *several = true;
        if (same(program.target, bundle->info.target)) {
            return nst_fail_entry(err, NST_E_CORRUPT, NST_PROGRAMS, i, 0, 0,
                                  NST_TEXT("the program names the bundle's own target"));
        }
    }
    if (!*several) {
        return NST_OK;
    }
    int code = list_targets(bundle, &named);
    if (code != NST_OK) {
        return nst_fail(err, code, "programs", NULL, 0, 0,
                        NST_TEXT("the table changed while it was read"));
    }
    if (named.full_at != NST_NONE) {
        return nst_fail_entry(err, NST_E_LIMIT, NST_PROGRAMS, named.full_at, NST_MAX_TARGETS, 0,
                              NST_TEXT("the bundle is for too many targets"));
    }
    if (!named.own) {
        return nst_fail(err, NST_E_CORRUPT, "programs", NULL, 0, 0,
                        NST_TEXT("no program is for the bundle's own target"));
    }
    return NST_OK;
}

int nst_check_targets(const nst_bundle *bundle, nst_error *err) {
    bool several = false;
    int code = check_programs(bundle, &several, err);
    for (uint32_t i = 0; several && code == NST_OK && i < bundle->count[NST_STAGES]; i++) {
        nst_text target;
        const char *message = NULL;
        nst_text name = nst_entry_name(bundle, NST_STAGES, i);
        if (nst_bundle_stage_target(bundle, i, &target) != NST_OK) {
            message = NST_TEXT("the stage changed while it was read");
        } else if (!same(target, bundle->info.target)) {
            uint32_t base = NST_NONE;
            if (!strip(&name, target)) {
                message = NST_TEXT("the stage's name does not end with '@' and its target");
            } else {
                base = nst_bundle_find(bundle, NST_STAGES, name.data, name.bytes);
            }
            if (base != NST_NONE && !agree(bundle, base, i)) {
                message = NST_TEXT("the stage differs from the one that it stands in for");
            }
        }
        if (message != NULL) {
            code = nst_fail_entry(err, NST_E_CORRUPT, NST_STAGES, i, 0, 0, message);
            nst_error_stage(err, nst_entry_name(bundle, NST_STAGES, i));
        }
    }
    return code;
}
