/* Steering: vectors added to the residual stream, token by token.
 *
 * A direction in the stream that a layer reads stands for a manner, such as thinking at length;
 * adding it, or its opposite, changes the manner without training (activation addition,
 * arXiv:2308.10248; efficiency steering of reasoning, arXiv:2506.15647). Which vectors there are is
 * said with nst_decoder_set_steering; this policy says which tokens get them. Plain C11, no heap.
 */
#ifndef NESTLING_CORE_STEERING_POLICY_H
#define NESTLING_CORE_STEERING_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "token_policy.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* Another policy, and vectors for the tokens behind an uncertain one. */
typedef struct nst_steering_policy {
    nst_token_policy inner; /* which picks the paths */
    uint32_t vectors;       /* a bit each */
    float entropy_bits;     /* steer behind a token of at least this entropy; 0: always */
} nst_steering_policy;

/* `inner` is copied; what it points to must live as long. False when it cannot choose or the entropy
 * is not a number. */
bool nst_steering_policy_init(nst_steering_policy *policy, const nst_token_policy *inner,
                              uint32_t vectors, float entropy_bits);
nst_token_policy nst_steering_policy_use(nst_steering_policy *policy);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
