/* Bundles with programs for several targets, and which stages stand in for each other.
 *
 * A program is for the bundle's target unless it names another one. A stage whose program names a
 * target T is called "<stage>@T" and *stands in* for the stage "<stage>", where there is one: both
 * do the same work between the same slots (same positions, level, macs, inputs and outputs; the
 * reader checks that), so a path may take either. They may differ in bits. */
#ifndef NESTLING_CORE_TARGETS_H
#define NESTLING_CORE_TARGETS_H

#include "bundle.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* The targets of a bundle: 0 is the bundle's own, the others follow in the order in which the
 * program table names them first. At most NST_MAX_TARGETS. O(programs x targets). */
uint32_t nst_bundle_target_count(const nst_bundle *bundle);

/* Name of target `i`: NST_OK, NST_E_NOT_FOUND. */
int nst_bundle_target(const nst_bundle *bundle, uint32_t i, nst_text *out);

/* Target of a stage's program: NST_OK, NST_E_NOT_FOUND (no such stage), NST_E_CORRUPT (the bytes
 * were changed after opening). */
int nst_bundle_stage_target(const nst_bundle *bundle, uint32_t stage, nst_text *out);

/* The stage that does the work of `stage` on `target` (bytes of a name): itself where it is for
 * that target; NST_NONE where there is none. O(log stages). */
uint32_t nst_bundle_stand_in(const nst_bundle *bundle, uint32_t stage, const char *target,
                             size_t bytes);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
