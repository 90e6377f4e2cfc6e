/* Budget policy: the largest path that meets a deadline, from costs that the device measured
 * itself.
 *
 * For each path the policy keeps a smoothed cost and its spread (both exponentially weighted).
 * Every call of nst_policy_choose looks for the largest path whose cost, spread included, fits the
 * deadline. It steps down at once, and steps up only when there is room to spare and the present
 * path has had its minimum stay, so that the choice does not flutter at a border.
 *
 * Paths are numbered as in the bundle, small to large. Plain C11; all state lies in the caller's
 * struct and array; no clock: the caller measures, in microseconds, with whatever clock the
 * deadline is in. Not thread-safe: one policy belongs to one session.
 */
#ifndef NESTLING_CORE_POLICY_H
#define NESTLING_CORE_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* What to multiply, how long to wait. NST_POLICY_DEFAULTS suits a model that runs 10 to 1000 times
 * a second. */
typedef struct nst_policy_params {
    /* Weight of a new measurement, 0 < smoothing <= 1. 0.2: half of a lasting change is seen after
     * 3 runs. */
    double smoothing;
    /* The cost of a path is its mean plus this many of its mean absolute deviations, >= 0. 2 covers
     * about 95 % of runs whose time scatters like a normal distribution. */
    double spread_weight;
    /* Stay on the present path as long as its cost is at most deadline x down_margin. 0 <
     * down_margin. */
    double down_margin;
    /* Step up to a larger path only if its cost is at most deadline x up_margin. 0 < up_margin <=
     * down_margin. */
    double up_margin;
    /* Runs on a path before a step up. A step down waits for nothing. */
    uint32_t minimum_stay_runs;
    /* Measurements of a path that the next one replaces instead of being averaged with: the first
     * run after loading pays for page faults and packing. */
    uint32_t warmup_runs;
    /* A path that was not run for this many runs (of all paths) is stale: its cost then moves in
     * proportion with the path that is being run, so that a path left because of heat is found
     * again when the device has cooled. */
    uint32_t stale_after_runs;
} nst_policy_params;

#define NST_POLICY_DEFAULTS {0.2, 2.0, 1.0, 0.85, 8, 1, 32}

/* What the policy knows of one path. */
typedef struct nst_policy_cost {
    double mean_us;      /* smoothed cost of a run */
    double deviation_us; /* smoothed absolute distance of a run from the mean before it */
    uint64_t runs;       /* measured here; 0: mean_us is at best a guess, see nst_policy_seed */
    uint64_t last_run;   /* value of nst_policy.runs when it was measured last */
    bool known;          /* mean_us says something */
} nst_policy_cost;

typedef struct nst_policy {
    nst_policy_params params;
    nst_policy_cost *costs; /* [paths], the caller's */
    uint32_t paths;
    uint32_t current; /* path chosen last */
    uint32_t stay;    /* runs of it since the choice changed */
    uint64_t runs;    /* of all paths */
} nst_policy;

/* Start with no knowledge, on path 0. `costs` must outlive the policy. False when a pointer is
 * null, paths is 0 or a parameter is out of its range (not a number included). */
bool nst_policy_init(nst_policy *policy, const nst_policy_params *params, nst_policy_cost *costs,
                     uint32_t paths);

/* Give a path a first guess, such as `cost_us` of the bundle. The first measurement replaces it.
 * Ignored once the path was measured, or when the path or the number (negative, infinite, not a
 * number) makes no sense. */
void nst_policy_seed(nst_policy *policy, uint32_t path, double cost_us);

/* Tell what a run of `path` took. False, and nothing changes, when path or cost makes no sense. */
bool nst_policy_record(nst_policy *policy, uint32_t path, double cost_us);

/* Expected cost of a path, spread included, in microseconds; negative where nothing is known of it.
 */
double nst_policy_cost_us(const nst_policy *policy, uint32_t path);

/* The path to run under `deadline_us`:
 *
 *  - Present path over deadline x down_margin: the largest smaller path known to fit deadline x
 * down_margin, or path 0 where none is known to.
 *  - Otherwise, after minimum_stay_runs runs of the present path: the largest larger path known to
 * fit deadline x up_margin; where none is, and the present path's own cost is known and fits
 * deadline x up_margin, the next larger path if nothing is known of it yet: it is tried once.
 *  - Otherwise the present path.
 *
 * Never fails; a deadline that is not a positive number is a deadline of 0. */
uint32_t nst_policy_choose(nst_policy *policy, double deadline_us);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
