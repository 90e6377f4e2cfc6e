/* Where each step of a path runs: the cheapest choice of targets, by exact dynamic programming.
 *
 * A path is a row of steps; each can run on some of the targets, at a measured cost there; going on
 * on another target than the step before costs a move. The search finds the choice whose sum is
 * smallest: a shortest path through a layered graph, in O(steps x targets^2) time. */
#ifndef NESTLING_CORE_PLACEMENT_H
#define NESTLING_CORE_PLACEMENT_H

#include "bundle.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* Costs are in microseconds, or in any other unit that adds up. Those that are negative, infinite
 * or not a number mean "not possible". */
typedef struct nst_placement {
    uint32_t steps;         /* at least 1 */
    uint32_t targets;       /* 1..NST_MAX_TARGETS */
    const double *stage_us; /* [steps][targets] of a step on a target */
    /* [steps - 1][targets][targets] of moving on from a target (of step i) to another (of step
     * i + 1). Null: nothing. */
    const double *move_us;
} nst_placement;

/* Find the cheapest placement. `out_choice`: [steps], the target of each step; `scratch`: [steps x
 * targets] numbers of the caller's, overwritten; `out_us` (may be null): its cost. Of equally cheap
 * ones the one that comes first is taken, compared from the last step backwards.
 * NST_OK, NST_E_ARGUMENT (null, or counts out of range), NST_E_NOT_FOUND (no choice is possible). */
int nst_placement_search(const nst_placement *placement, uint32_t *out_choice, uint8_t *scratch,
                         double *out_us);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
