#include "token_policy.h"

#include <stddef.h>
#include <string.h>

static void choose_fixed(void *self, const nst_token_signals *last, nst_token_choice *out) {
    const nst_fixed_policy *policy = self;
    (void)last;
    out->path = policy->path;
}

nst_token_policy nst_fixed_policy_use(nst_fixed_policy *policy) {
    return (nst_token_policy){.self = policy, .choose = choose_fixed};
}

bool nst_entropy_policy_init(nst_entropy_policy *policy, uint32_t small, uint32_t large,
                             float threshold_bits, uint32_t window, uint32_t minimum_stay,
                             bool ahead) {
    if (policy == NULL || window == 0 || window > NST_ENTROPY_WINDOW_MAX ||
        !(threshold_bits >= 0.0f)) {
        return false;
    }
    memset(policy, 0, sizeof *policy);
    policy->small = small;
    policy->large = large;
    policy->threshold_bits = threshold_bits;
    policy->window = window;
    policy->minimum_stay = minimum_stay;
    policy->ahead = ahead ? 1 : 0;
    policy->stay = minimum_stay;
    policy->current = ahead ? 0 : 1;
    return true;
}

/* One token more, of this entropy; decides on the path. */
static void take_entropy(nst_entropy_policy *policy, float entropy_bits) {
    float sum = 0;
    policy->entropies[policy->next] = entropy_bits;
    policy->next = (policy->next + 1) % policy->window;
    policy->filled += policy->filled < policy->window ? 1 : 0;
    for (uint32_t i = 0; i < policy->filled; i++) {
        sum += policy->entropies[i];
    }
    const uint32_t wanted = sum > policy->threshold_bits * (float)policy->filled ? 1 : 0;
    if (wanted != policy->current && policy->stay >= policy->minimum_stay) {
        policy->current = wanted;
        policy->stay = 0;
    }
    policy->stay += policy->stay < UINT32_MAX ? 1 : 0;
}

static void choose_by_entropy(void *self, const nst_token_signals *last, nst_token_choice *out) {
    nst_entropy_policy *policy = self;
    if (policy->ahead != 0) {
        out->path = policy->small;
        return;
    }
    if (last->path != NST_NO_PATH) {
        take_entropy(policy, last->logits.entropy_bits);
    }
    out->path = policy->current != 0 ? policy->large : policy->small;
}

static uint32_t go_on_by_entropy(void *self, const nst_token_signals *now) {
    nst_entropy_policy *policy = self;
    if (policy->ahead == 0 || now->path != policy->small) {
        return NST_NO_PATH;
    }
    take_entropy(policy, now->logits.entropy_bits);
    return policy->current != 0 ? policy->large : NST_NO_PATH;
}

nst_token_policy nst_entropy_policy_use(nst_entropy_policy *policy) {
    return (nst_token_policy){
        .self = policy, .choose = choose_by_entropy, .accept = go_on_by_entropy};
}

bool nst_exit_policy_init(nst_exit_policy *policy, const uint32_t *paths, const float *thresholds,
                          uint32_t count, nst_exit_signal signal) {
    if (policy == NULL || paths == NULL || count == 0 || count > NST_LADDER_MAX ||
        (uint32_t)signal > NST_EXIT_ENTROPY || (thresholds == NULL && count > 1)) {
        return false;
    }
    memset(policy, 0, sizeof *policy);
    memcpy(policy->paths, paths, count * sizeof *paths);
    for (uint32_t i = 0; i + 1 < count; i++) {
        if (!(thresholds[i] >= 0.0f)) {
            return false;
        }
        policy->thresholds[i] = thresholds[i];
    }
    policy->count = count;
    policy->signal = (uint32_t)signal;
    return true;
}

static void choose_first(void *self, const nst_token_signals *last, nst_token_choice *out) {
    const nst_exit_policy *policy = self;
    (void)last;
    out->path = policy->paths[0];
}

static bool is_sure(uint32_t signal, float threshold, const nst_logit_signals *logits) {
    switch (signal) {
        case NST_EXIT_MARGIN:
            return logits->margin >= threshold;
        case NST_EXIT_ENTROPY:
            return logits->entropy_bits <= threshold;
        default:
            return logits->confidence >= threshold;
    }
}

static uint32_t next_unless_sure(void *self, const nst_token_signals *now) {
    const nst_exit_policy *policy = self;
    for (uint32_t i = 0; i + 1 < policy->count; i++) {
        if (policy->paths[i] == now->path) {
            return is_sure(policy->signal, policy->thresholds[i], &now->logits)
                       ? NST_NO_PATH
                       : policy->paths[i + 1];
        }
    }
    return NST_NO_PATH;
}

nst_token_policy nst_exit_policy_use(nst_exit_policy *policy) {
    return (nst_token_policy){.self = policy, .choose = choose_first, .accept = next_unless_sure};
}

static void choose_draft(void *self, const nst_token_signals *last, nst_token_choice *out) {
    const nst_speculative_policy *policy = self;
    (void)last;
    out->path = policy->draft;
    out->verify = policy->verify;
    out->draft_tokens = policy->tokens;
    out->draft_confidence = policy->confidence;
}

nst_token_policy nst_speculative_policy_use(nst_speculative_policy *policy) {
    return (nst_token_policy){.self = policy, .choose = choose_draft};
}

bool nst_rate_policy_init(nst_rate_policy *policy, nst_policy_cost *costs, uint32_t paths,
                          double tokens_per_second, uint32_t horizon) {
    const nst_policy_params params = NST_POLICY_DEFAULTS;
    if (policy == NULL || !(tokens_per_second > 0.0 && tokens_per_second < 1e9) || horizon == 0) {
        return false;
    }
    policy->token_us = 1e6 / tokens_per_second;
    policy->horizon = horizon;
    return nst_policy_init(&policy->costs, &params, costs, paths);
}

static void choose_by_rate(void *self, const nst_token_signals *last, nst_token_choice *out) {
    nst_rate_policy *policy = self;
    if (last->path != NST_NO_PATH) {
        (void)nst_policy_record(&policy->costs, last->path, (double)last->token_ns * 1e-3);
    }
    const double due_us = policy->token_us * (double)last->generated;
    const double ahead_us = due_us - (double)last->elapsed_ns * 1e-3;
    out->path =
        nst_policy_choose(&policy->costs, policy->token_us + ahead_us / (double)policy->horizon);
}

nst_token_policy nst_rate_policy_use(nst_rate_policy *policy) {
    return (nst_token_policy){.self = policy, .choose = choose_by_rate};
}
