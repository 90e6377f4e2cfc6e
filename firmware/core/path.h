/* Which lists of stages are paths. This file decides, and nothing else does.
 *
 * A list of stages is a legal path when
 *  1. the spans of positions that its stages cover ascend and do not overlap;
 *  2. every required position is covered; one that is part of a block, if the block's first is;
 *  3. every slot that a stage reads is an input or state slot, or was written by an earlier stage
 * of the list;
 *  4. at least one output slot is written;
 *  5. a position that is part of a block is covered only where the block's first position is.
 */
#ifndef NESTLING_CORE_PATH_H
#define NESTLING_CORE_PATH_H

#include "bundle.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef enum nst_path_fault {
    NST_PATH_LEGAL = 0,
    NST_PATH_EMPTY = 1,    /* no stage at all */
    NST_PATH_NO_STAGE = 2, /* chain[at] is not the index of a stage */
    NST_PATH_OVERLAP =
        3, /* chain[at] starts at `position`, which is not behind the stage before it */
    NST_PATH_UNCOVERED =
        4, /* required `position` is covered by no stage; `at` is where it would belong */
    NST_PATH_UNWRITTEN = 5, /* chain[at] reads `slot`, which nothing before it wrote */
    NST_PATH_NO_OUTPUT = 6, /* no stage writes an output slot */
    NST_PATH_CHANGED = 7,   /* the bundle's bytes changed after it was opened */
    NST_PATH_PART = 8 /* chain[at] covers `position`, part of a block that the path has not begun */
} nst_path_fault;

/* What is wrong with a path; fields that the fault does not speak of are NST_NONE. */
typedef struct nst_path_report {
    nst_path_fault fault;
    uint32_t at;    /* number in the chain, from 0 */
    uint32_t stage; /* chain[at] */
    uint32_t position;
    uint32_t slot;
} nst_path_report;

/* Check `count` stages. NST_OK or NST_E_PATH (NST_E_ARGUMENT on null, NST_E_CORRUPT on
 * NST_PATH_CHANGED); `report` and `err` may be null. The error names the stage, and the position or
 * slot that is missing. Takes O(stages + their slots + positions) and about 600 bytes of stack. */
int nst_path_check(const nst_bundle *bundle, const uint32_t *chain, size_t count,
                   nst_path_report *report, nst_error *err);

/* The same for a list of the manifest (nst_path_info.chain). */
int nst_path_check_list(const nst_bundle *bundle, nst_list chain, nst_path_report *report,
                        nst_error *err);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
