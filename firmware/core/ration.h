/* Ration: a battery's charge as a limit for the budget policy (policy.h), so that it lasts until a
 * moment, such as the evening.
 *
 * The charge should fall in a straight line from what it is at the start to `reserve` at `end_s`. On
 * that line a run may cost half of what the largest path costs. The share grows with what is left
 * over, and falls with what is missing: all and nothing are half a band above and below. Use comes
 * in bursts, so the charge swings about the line, and small paths run more evenly over the day than
 * large ones first and the smallest later. Nothing need be known of the device: what was spent too
 * much shows in the charge.
 *
 *     path = nst_policy_choose(&policy, nst_ration_limit_us(&ration, &policy, deadline_us, now_s, charge));
 *
 * Plain C11, no clock: the caller reads both, in the units below. Times are seconds on any clock
 * that does not go back; charges are 0 to 1.
 */
#ifndef NESTLING_CORE_RATION_H
#define NESTLING_CORE_RATION_H

#include "policy.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define NST_RATION_RESERVE 0.01
#define NST_RATION_BAND 0.5

/* Fill with nst_ration_init; read only. */
typedef struct nst_ration {
    double start_s;
    double start_charge;
    double end_s;
    double reserve;
    double band;
} nst_ration;

/* Start now. `end_s`: until when the battery has to last. `reserve`: charge to be left then, 0 to
 * below 1; NST_RATION_RESERVE. `band`: part of the planned charge above the reserve over which the
 * share goes from nothing to all, above 0; NST_RATION_BAND. False when a pointer is null or a number
 * is out of its range (not a number included). */
bool nst_ration_init(nst_ration *ration, double now_s, double charge, double end_s, double reserve,
                     double band);

/* What the line says for now; the reserve when the time is over. */
double nst_ration_planned(const nst_ration *ration, double now_s);

/* Part of the largest path's cost that a run may take, 0 to 1. A charge that is not a number counts
 * as an empty battery. */
double nst_ration_share(const nst_ration *ration, double now_s, double charge);

/* The deadline to choose a path for, in microseconds: `deadline_us`, or less where the ration asks
 * for it. As long as nothing is known of the largest path's cost, there is nothing to take a share
 * of, and it is the deadline. */
double nst_ration_limit_us(const nst_ration *ration, const nst_policy *policy, double deadline_us,
                           double now_s, double charge);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
