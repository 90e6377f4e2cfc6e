#include "policy.h"

#include <float.h>

/* False for negative, infinite and not-a-number alike. */
static bool is_cost(double us) {
    return us >= 0.0 && us <= DBL_MAX;
}

static bool params_are_sound(const nst_policy_params *params) {
    return params->smoothing > 0.0 && params->smoothing <= 1.0 && is_cost(params->spread_weight) &&
           is_cost(params->down_margin) && params->up_margin > 0.0 &&
           params->up_margin <= params->down_margin;
}

bool nst_policy_init(nst_policy *policy, const nst_policy_params *params, nst_policy_cost *costs,
                     uint32_t paths) {
    if (policy == NULL || params == NULL || costs == NULL || paths == 0 ||
        !params_are_sound(params)) {
        return false;
    }
    *policy = (nst_policy){.params = *params, .costs = costs, .paths = paths};
    for (uint32_t i = 0; i < paths; i++) {
        costs[i] = (nst_policy_cost){.mean_us = 0.0};
    }
    return true;
}

void nst_policy_seed(nst_policy *policy, uint32_t path, double cost_us) {
    if (path < policy->paths && policy->costs[path].runs == 0 && is_cost(cost_us)) {
        policy->costs[path].mean_us = cost_us;
        policy->costs[path].known = true;
    }
}

/* Move every stale cost in proportion: the device as a whole became faster or slower. */
static void move_stale(nst_policy *policy, uint32_t measured, double ratio) {
    for (uint32_t i = 0; i < policy->paths; i++) {
        nst_policy_cost *cost = &policy->costs[i];
        bool stale = cost->known && policy->runs - cost->last_run > policy->params.stale_after_runs;
        if (i == measured || !stale) {
            continue;
        }
        double mean = cost->mean_us * ratio;
        double deviation = cost->deviation_us * ratio;
        if (is_cost(mean) && is_cost(deviation)) {
            cost->mean_us = mean;
            cost->deviation_us = deviation;
        }
    }
}

bool nst_policy_record(nst_policy *policy, uint32_t path, double cost_us) {
    if (path >= policy->paths || !is_cost(cost_us)) {
        return false;
    }
    nst_policy_cost *cost = &policy->costs[path];
    policy->runs++;
    if (path == policy->current && policy->stay < UINT32_MAX) {
        policy->stay++;
    }
    if (cost->runs <= policy->params.warmup_runs) {
        cost->mean_us = cost_us;
        cost->deviation_us = 0.0;
    } else {
        double weight = policy->params.smoothing;
        double before = cost->mean_us;
        double distance = cost_us > before ? cost_us - before : before - cost_us;
        cost->mean_us = (1.0 - weight) * before + weight * cost_us;
        cost->deviation_us = (1.0 - weight) * cost->deviation_us + weight * distance;
        if (before > 0.0) {
            move_stale(policy, path, cost->mean_us / before);
        }
    }
    cost->known = true;
    cost->runs++;
    cost->last_run = policy->runs;
    return true;
}

double nst_policy_cost_us(const nst_policy *policy, uint32_t path) {
    if (path >= policy->paths || !policy->costs[path].known) {
        return -1.0;
    }
    const nst_policy_cost *cost = &policy->costs[path];
    return cost->mean_us + policy->params.spread_weight * cost->deviation_us;
}

/* Whether a path is known to cost at most `limit_us`. */
static bool fits(const nst_policy *policy, uint32_t path, double limit_us) {
    double cost = nst_policy_cost_us(policy, path);
    return cost >= 0.0 && cost <= limit_us;
}

static uint32_t go(nst_policy *policy, uint32_t path) {
    if (path != policy->current) {
        policy->current = path;
        policy->stay = 0;
    }
    return path;
}

uint32_t nst_policy_choose(nst_policy *policy, double deadline_us) {
    const nst_policy_params *params = &policy->params;
    const uint32_t current = policy->current;
    double deadline = deadline_us > 0.0 ? deadline_us : 0.0;
    double down_limit = deadline * params->down_margin;
    double up_limit = deadline * params->up_margin;

    if (policy->costs[current].known && !fits(policy, current, down_limit)) {
        for (uint32_t path = current; path > 0; path--) {
            if (fits(policy, path - 1, down_limit)) {
                return go(policy, path - 1);
            }
        }
        return go(policy, 0);
    }
    if (policy->stay < params->minimum_stay_runs) {
        return current;
    }
    for (uint32_t path = policy->paths - 1; path > current; path--) {
        if (fits(policy, path, up_limit)) {
            return go(policy, path);
        }
    }
    if (current + 1 < policy->paths && !policy->costs[current + 1].known &&
        fits(policy, current, up_limit)) {
        return go(policy, current + 1);
    }
    return current;
}
