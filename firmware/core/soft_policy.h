/* Soft thinking: steps that feed the mean of likely tokens' embeddings in the place of one token
 * (Soft Thinking, arXiv:2505.15778), and when to take them. Plain C11, no heap.
 */
#ifndef NESTLING_CORE_SOFT_POLICY_H
#define NESTLING_CORE_SOFT_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "token_policy.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef enum nst_soft_switch {
    /* ThinkRouter (arXiv:2602.11683): a soft step behind a distribution whose largest probability is
     * at least `confidence`, the token itself behind others. */
    NST_SOFT_CONFIDENCE = 0,
    /* SwiReasoning (arXiv:2510.05069): soft steps at first. The entropy behind which a phase began is
     * its reference. Soft steps end at once where the entropy falls below it; they begin again where
     * it rises above it, `dwell` tokens after they ended at the earliest. */
    NST_SOFT_TREND = 1
} nst_soft_switch;

/* Another policy, and soft steps. A token that is drafted is never soft. */
typedef struct nst_soft_policy {
    nst_token_policy inner; /* which picks the paths */
    uint32_t decides;       /* an nst_soft_switch */
    float confidence;       /* of ThinkRouter: its tau */
    uint32_t dwell;         /* 512 in SwiReasoning */
    uint32_t most_switches; /* ends of soft phases before there are no more; UINT32_MAX: no cap */
    uint32_t tokens;        /* in a mean, 1 to NST_SOFT_MAX; Soft Thinking's are 10 */
    uint32_t soft;          /* what the policy remembers, from here on */
    uint32_t begun;         /* there is a reference */
    uint32_t stay;          /* tokens since the last switch */
    uint32_t switches;      /* ends of soft phases so far */
    float reference_bits;
} nst_soft_policy;

/* Fill in `policy`, whose parameters are set, for a new generation. `inner` is copied; what it points
 * to must live as long. False when a parameter is out of its range. */
bool nst_soft_policy_init(nst_soft_policy *policy, const nst_token_policy *inner);
nst_token_policy nst_soft_policy_use(nst_soft_policy *policy);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
