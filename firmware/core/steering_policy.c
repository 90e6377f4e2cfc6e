#include "steering_policy.h"

#include <stddef.h>

#include "inner_policy.h"

bool nst_steering_policy_init(nst_steering_policy *policy, const nst_token_policy *inner,
                              uint32_t vectors, float entropy_bits) {
    if (policy == NULL || inner == NULL || inner->choose == NULL || !(entropy_bits >= 0.0f)) {
        return false;
    }
    *policy =
        (nst_steering_policy){.inner = *inner, .vectors = vectors, .entropy_bits = entropy_bits};
    return true;
}

static void choose_steered(void *self, const nst_token_signals *last, nst_token_choice *out) {
    const nst_steering_policy *policy = self;
    policy->inner.choose(policy->inner.self, last, out);
    if (policy->entropy_bits <= 0.0f ||
        (last->path != NST_NO_PATH && last->logits.entropy_bits >= policy->entropy_bits)) {
        out->steering |= policy->vectors;
    }
}

nst_token_policy nst_steering_policy_use(nst_steering_policy *policy) {
    return nst_around_inner(&policy->inner, choose_steered);
}
