#include "ration.h"

#include <float.h>

/* False for infinite and not-a-number, too. */
static bool is_between(double value, double least, double most) {
    return value >= least && value <= most;
}

bool nst_ration_init(nst_ration *ration, double now_s, double charge, double end_s, double reserve,
                     double band) {
    if (ration == NULL || !is_between(now_s, -DBL_MAX, DBL_MAX) || !is_between(charge, 0.0, 1.0) ||
        !is_between(end_s, -DBL_MAX, DBL_MAX) || !is_between(reserve, 0.0, 1.0) || reserve == 1.0 ||
        !is_between(band, DBL_MIN, DBL_MAX)) {
        return false;
    }
    *ration = (nst_ration){
        .start_s = now_s, .start_charge = charge, .end_s = end_s, .reserve = reserve, .band = band};
    return true;
}

double nst_ration_planned(const nst_ration *ration, double now_s) {
    double span = ration->end_s - ration->start_s;
    double left = ration->end_s - now_s;
    if (!(span > 0.0) || !(left > 0.0)) {
        return ration->reserve;
    }
    return ration->reserve + (ration->start_charge - ration->reserve) * (left / span);
}

double nst_ration_share(const nst_ration *ration, double now_s, double charge) {
    double planned = nst_ration_planned(ration, now_s);
    double surplus = charge - planned;
    double band = ration->band * (planned - ration->reserve);
    if (!(band > 0.0)) {
        return surplus > 0.0 ? 1.0 : 0.0;
    }
    double share = 0.5 + surplus / band;
    if (share >= 1.0) {
        return 1.0;
    }
    return share > 0.0 ? share : 0.0;
}

double nst_ration_limit_us(const nst_ration *ration, const nst_policy *policy, double deadline_us,
                           double now_s, double charge) {
    double share = nst_ration_share(ration, now_s, charge);
    double largest_us = nst_policy_cost_us(policy, policy->paths - 1);
    if (share == 1.0 || largest_us < 0.0) {
        return deadline_us;
    }
    /* A path is stepped up to if it fits with a margin; at a share near 1 the largest one should. */
    double limit_us = share * largest_us / policy->params.up_margin;
    return limit_us < deadline_us ? limit_us : deadline_us;
}
