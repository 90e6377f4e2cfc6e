/* For policies that stand around another one: what they do not decide is the inner one's. */
#ifndef NESTLING_CORE_INNER_POLICY_H
#define NESTLING_CORE_INNER_POLICY_H

#include "token_policy.h"

/* A policy whose memory begins with the inner one, and which decides with `choose` alone. */
nst_token_policy nst_around_inner(nst_token_policy *inner,
                                  void (*choose)(void *self, const nst_token_signals *last,
                                                 nst_token_choice *out));

#endif
