/* The steps of nst_bundle_open, one file each. Internal to the reader. */
#ifndef NESTLING_CORE_READER_H
#define NESTLING_CORE_READER_H

#include "bundle.h"
#include "manifest.h"

/* bundle.c: the first half of nst_bundle_open. Prefix, signature's form, hash of the manifest and the manifest's
 * entries are checked; bytes behind the head are not looked at, and may not be there yet. */
int nst_open_head(nst_bundle *out, const void *data, size_t size, void *index, size_t index_bytes,
                  const nst_hash_ops *hash, nst_error *err);

/* bundle_index.c: walk the manifest once, decode every entry, note where it starts, sort the names
 * and refuse doubles. Fills everything of `bundle` that comes from the manifest. */
int nst_index_manifest(nst_bundle *bundle, uint32_t *index, size_t words, nst_error *err);

/* bundle_layout.c: sections fill the file, programs and constants fill their sections, padding is
 * zero. */
int nst_check_layout(const nst_bundle *bundle, nst_error *err);

/* bundle_check.c: every index points at an entry, every stage and path makes sense. */
int nst_check_references(const nst_bundle *bundle, nst_error *err);

/* appends.c: slots that are rows of a state slot fit it. */
int nst_check_appends(const nst_bundle *bundle, nst_error *err);

/* appends.c: whether some slot is rows of this one. */
bool nst_is_appended(const nst_bundle *bundle, uint32_t slot);

/* targets.c: programs name targets as SPEC.md says, and stages that stand in for each other agree. */
int nst_check_targets(const nst_bundle *bundle, nst_error *err);

/* bundle_check.c: entry `i` with all its indexes in range. The caller has checked `i`. */
int nst_read_constant(const nst_bundle *bundle, uint32_t i, nst_constant_info *out, nst_error *err);
int nst_read_program(const nst_bundle *bundle, uint32_t i, nst_program_info *out, nst_error *err);
int nst_read_stage(const nst_bundle *bundle, uint32_t i, nst_stage_info *out, nst_error *err);
int nst_read_path(const nst_bundle *bundle, uint32_t i, nst_path_info *out, nst_error *err);

/* A cursor at entry `i`, up to the end of the manifest. */
static inline nst_cursor nst_entry_at(const nst_bundle *bundle, nst_table table, uint32_t i) {
    size_t number = (size_t)bundle->first[table] + i;
    return (nst_cursor){bundle->manifest + bundle->entry[2 * number], bundle->manifest_end};
}

/* Name of entry `i`, straight from its place in the manifest; empty if the bytes there were
 * changed. */
nst_text nst_entry_name(const nst_bundle *bundle, nst_table table, uint32_t i);

/* "manifest" error about one entry: fills section with "table[i]" and returns `code`. */
int nst_fail_entry(nst_error *err, int code, nst_table table, uint32_t i, uint64_t expected,
                   uint64_t actual, const char *message);

#endif
