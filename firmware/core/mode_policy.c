#include "mode_policy.h"

#include <stddef.h>

bool nst_mode_policy_init(nst_mode_policy *policy) {
    if (policy == NULL || policy->thinking.choose == NULL || policy->answering.choose == NULL ||
        policy->closing == NULL || policy->closing_count == 0) {
        return false;
    }
    policy->thought = 0;
    policy->matched = 0;
    policy->forcing = 0;
    policy->answers = 0;
    return true;
}

static const nst_token_policy *present(const nst_mode_policy *policy) {
    return policy->answers != 0 ? &policy->answering : &policy->thinking;
}

/* Whether the first `count` closing tokens end with the first `shorter` ones. */
static bool ends_with(const nst_mode_policy *policy, uint32_t count, uint32_t shorter) {
    for (uint32_t i = 0; i < shorter; i++) {
        if (policy->closing[count - shorter + i] != policy->closing[i]) {
            return false;
        }
    }
    return true;
}

/* A token more of the thought. */
static void take_thought(nst_mode_policy *policy, uint32_t token) {
    policy->thought += policy->thought < UINT32_MAX ? 1 : 0;
    while (policy->closing[policy->matched] != token && policy->matched != 0) {
        uint32_t shorter = policy->matched - 1;
        while (shorter != 0 && !ends_with(policy, policy->matched, shorter)) {
            shorter--;
        }
        policy->matched = shorter;
    }
    policy->matched += policy->closing[policy->matched] == token ? 1 : 0;
    policy->answers = policy->matched == policy->closing_count ? 1 : 0;
}

static void choose_by_mode(void *self, const nst_token_signals *last, nst_token_choice *out) {
    nst_mode_policy *policy = self;
    if (last->path != NST_NO_PATH && policy->answers == 0) {
        take_thought(policy, last->token);
    }
    const bool thinks = policy->answers == 0;
    present(policy)->choose(present(policy)->self, last, out);
    if (!thinks) {
        return;
    }
    out->path = out->draft_tokens != 0 ? out->verify : out->path;
    out->draft_tokens = 0;
    if (policy->forcing != 0 || policy->thought - policy->matched >= policy->thinking_tokens) {
        policy->forcing = 1;
        out->forced = 1;
        out->token = policy->closing[policy->matched];
    }
}

static uint32_t accept_by_mode(void *self, const nst_token_signals *now) {
    const nst_token_policy *policy = present(self);
    return policy->accept != NULL ? policy->accept(policy->self, now) : NST_NO_PATH;
}

static uint32_t route_by_mode(void *self, const nst_layer_input *at) {
    const nst_token_policy *policy = present(self);
    return policy->route != NULL ? policy->route(policy->self, at) : at->path_level;
}

nst_token_policy nst_mode_policy_use(nst_mode_policy *policy) {
    const bool accepts = policy->thinking.accept != NULL || policy->answering.accept != NULL;
    const bool routes = policy->thinking.route != NULL || policy->answering.route != NULL;
    return (nst_token_policy){.self = policy,
                              .choose = choose_by_mode,
                              .accept = accepts ? accept_by_mode : NULL,
                              .route = routes ? route_by_mode : NULL};
}
