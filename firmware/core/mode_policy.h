/* Modes: one policy while a model thinks, another while it answers, and a budget between them
 * (ThinkDial, arXiv:2508.18773; Nemotron Elastic's budget control, arXiv:2605.07182). Plain C11, no
 * heap.
 */
#ifndef NESTLING_CORE_MODE_POLICY_H
#define NESTLING_CORE_MODE_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "token_policy.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* A generation that begins in the midst of a thought. It is closed by the model, which writes the
 * closing tokens, or when the budget is used: then they are forced, one at a time. What follows is
 * the answer. The first five members may be changed at any token, by a callback of the generation: what
 * was thought already counts. A thought is not drafted: a policy sees the last token of a draft alone. */
typedef struct nst_mode_policy {
    nst_token_policy thinking;
    nst_token_policy answering;
    uint32_t thinking_tokens; /* most tokens of a thought, closing tokens aside */
    uint32_t closing_count;   /* at least 1 */
    const uint32_t *closing;  /* [closing_count] tokens that close a thought */
    uint32_t thought;         /* what the policy remembers, from here on: tokens of the thought */
    uint32_t matched;         /* closing tokens that stand at the end of the thought */
    uint32_t forcing;         /* 1: the rest of them is forced */
    uint32_t answers;         /* 1: the thought is closed */
} nst_mode_policy;

/* Fill in `policy`, whose parameters are set, for a new thought. False when one makes no sense. The
 * memory of both policies must live as long. */
bool nst_mode_policy_init(nst_mode_policy *policy);
/* Both policies may accept and route; where they do not, tokens are taken as they come. */
nst_token_policy nst_mode_policy_use(nst_mode_policy *policy);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
