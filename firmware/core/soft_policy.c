#include "soft_policy.h"

#include <stddef.h>

#include "inner_policy.h"

bool nst_soft_policy_init(nst_soft_policy *policy, const nst_token_policy *inner) {
    if (policy == NULL || inner == NULL || inner->choose == NULL ||
        policy->decides > NST_SOFT_TREND || policy->tokens == 0 || policy->tokens > NST_SOFT_MAX ||
        (policy->decides == NST_SOFT_CONFIDENCE && !(policy->confidence >= 0.0f))) {
        return false;
    }
    policy->inner = *inner;
    policy->soft = 1;
    policy->begun = 0;
    policy->stay = 0;
    policy->switches = 0;
    policy->reference_bits = 0;
    return true;
}

/* One distribution more; whether the step that follows from it is soft. */
static bool follow_trend(nst_soft_policy *policy, float entropy_bits) {
    if (policy->begun == 0) {
        policy->begun = 1;
        policy->reference_bits = entropy_bits;
        return policy->soft != 0;
    }
    policy->stay += policy->stay < UINT32_MAX ? 1 : 0;
    const bool locked = policy->switches >= policy->most_switches;
    const bool falls = policy->soft != 0 && entropy_bits < policy->reference_bits;
    const bool rises = policy->soft == 0 && entropy_bits > policy->reference_bits;
    if (falls || (rises && policy->stay >= policy->dwell && !locked)) {
        policy->switches += falls ? 1 : 0;
        policy->soft = falls ? 0 : 1;
        policy->reference_bits = entropy_bits;
        policy->stay = 0;
    }
    return policy->soft != 0;
}

static void choose_softly(void *self, const nst_token_signals *last, nst_token_choice *out) {
    nst_soft_policy *policy = self;
    policy->inner.choose(policy->inner.self, last, out);
    if (last->path == NST_NO_PATH) {
        return;
    }
    const bool soft = policy->decides == NST_SOFT_TREND
                          ? follow_trend(policy, last->logits.entropy_bits)
                          : last->logits.confidence >= policy->confidence;
    if (soft && out->draft_tokens == 0) {
        out->soft_tokens = policy->tokens;
    }
}

nst_token_policy nst_soft_policy_use(nst_soft_policy *policy) {
    return nst_around_inner(&policy->inner, choose_softly);
}
