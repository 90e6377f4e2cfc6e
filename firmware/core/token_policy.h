/* Which path makes the next token.
 *
 * A policy is two functions and what they remember. `choose` names the path before a token is
 * computed; `accept` (may be null) looks at the logits that came out and may ask for another path
 * to go on from there. One of your own, which takes the large path after every line end:
 *
 *     static void choose(void *self, const nst_token_signals *last, nst_token_choice *out) {
 *         out->path = last->token == '\n' ? 3 : 0;
 *     }
 *     const nst_token_policy policy = {.choose = choose};
 *
 * A policy may also say how a token is fed, beside its path: with vectors added to the residual stream
 * (steering_policy.h), or as the mean of likely tokens (soft_policy.h); and `route` picks every
 * layer's width while the token runs (route_policy.h).
 *
 * Paths are numbered as nst_decoder_path_name does, small to large. Plain C11, no heap, no clock.
 */
#ifndef NESTLING_CORE_TOKEN_POLICY_H
#define NESTLING_CORE_TOKEN_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "policy.h"
#include "sampler.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define NST_NO_PATH UINT32_MAX
#define NST_SOFT_MAX 16u /* tokens in a mean */

/* What is known when a token is about to be computed, or was just computed. */
typedef struct nst_token_signals {
    uint32_t generated;       /* tokens of this generation before the one that is looked at */
    uint32_t token;           /* the last one, of the prompt at first; NST_NO_PATH: none */
    uint32_t path;            /* that made it, or makes it; NST_NO_PATH: prompt */
    uint32_t reserved;        /* zero */
    nst_logit_signals logits; /* that it was, or will be, drawn from; zeros at first */
    uint64_t token_ns;        /* that it took; 0 at first */
    uint64_t elapsed_ns;      /* since the generation began */
} nst_token_signals;

typedef struct nst_token_choice {
    uint32_t path;
    /* Not 0: draft this many tokens greedily with `path`, then verify them with `verify`. */
    uint32_t draft_tokens;
    uint32_t verify;
    /* A draft ends early behind a token of less confidence than this. */
    float draft_confidence;
    /* Not 0: a step of soft thinking. In the place of the last token, the mean of the embeddings of
     * so many likeliest ones is fed, weighted by their probabilities: 1 to NST_SOFT_MAX. There must
     * be a distribution that this generation has drawn from, and no draft. */
    uint32_t soft_tokens;
    /* Vectors that are added to the residual stream, a bit each: see nst_decoder_set_steering. */
    uint32_t steering;
    /* Not 0: whatever the logits say, the token that comes next is `token`. No draft. */
    uint32_t forced;
    uint32_t token;
} nst_token_choice;

/* What a policy sees where a token comes to a layer. */
typedef struct nst_layer_input {
    uint32_t layer;      /* from 0 */
    uint32_t layers;     /* of the model */
    uint32_t levels;     /* of its feed-forward: widths from 1 up */
    uint32_t path_level; /* that the path has here, at least 1 */
    uint32_t skippable;  /* 0: every token must run through it */
    uint32_t dim;
    const float
        *stream; /* [dim], until `route` returns: the residual stream, not yet steered here */
} nst_layer_input;

typedef struct nst_token_policy {
    void *self;
    /* Fill *out, which holds path 0 and zeros. */
    void (*choose)(void *self, const nst_token_signals *last, nst_token_choice *out);
    /* NST_NO_PATH to draw from these logits, or a path to compute the same token with instead. */
    uint32_t (*accept)(void *self, const nst_token_signals *now);
    /* May be null. Asked at the input of each layer of the path, from front to back, about the one
     * token that is being made, in every run of it: the level of the layer's feed-forward, or 0 to
     * leave the layer out. What is left out still gets keys and values, those of the stream that
     * passes it (PROPAGATE); for all that comes later the token is one of its path's. No draft. */
    uint32_t (*route)(void *self, const nst_layer_input *at);
} nst_token_policy;

/* Always the same path. */
typedef struct nst_fixed_policy {
    uint32_t path;
} nst_fixed_policy;

nst_token_policy nst_fixed_policy_use(nst_fixed_policy *policy);

#define NST_ENTROPY_WINDOW_MAX 64u

/* Entropy Adaptive Decoding (arXiv:2502.06833): the large path while the mean entropy of the last
 * `window` tokens is above a threshold, the small one otherwise, each for a minimum of tokens.
 *
 * The paper knows the entropy of tokens that are drawn already. With `ahead`, a token starts on the
 * small path, whose entropy enters the mean, and goes on to the large one if that is too high: for
 * a small path that is an exit of the large one, this costs its head. The first token takes the
 * large path, with `ahead` the small one. */
typedef struct nst_entropy_policy {
    uint32_t small;
    uint32_t large;
    float threshold_bits;
    uint32_t window;       /* 1 to NST_ENTROPY_WINDOW_MAX; the paper's is 5 */
    uint32_t minimum_stay; /* tokens on a path before it may change */
    uint32_t ahead;        /* 0 or 1 */
    uint32_t filled;       /* what the policy remembers, from here on */
    uint32_t next;
    uint32_t stay;
    uint32_t current; /* 0: small, 1: large */
    float entropies[NST_ENTROPY_WINDOW_MAX];
} nst_entropy_policy;

/* False when the window is out of its range or the threshold not a number. */
bool nst_entropy_policy_init(nst_entropy_policy *policy, uint32_t small, uint32_t large,
                             float threshold_bits, uint32_t window, uint32_t minimum_stay,
                             bool ahead);
nst_token_policy nst_entropy_policy_use(nst_entropy_policy *policy);

#define NST_LADDER_MAX 16u

typedef enum nst_exit_signal {
    NST_EXIT_CONFIDENCE = 0, /* largest probability (Sorted LLaMA, arXiv:2309.08968) */
    NST_EXIT_MARGIN = 1,     /* less the second largest (CALM, arXiv:2207.07061) */
    NST_EXIT_ENTROPY = 2     /* at most this many bits */
} nst_exit_signal;

/* Confidence exit: try the paths of a ladder from small to large until one is sure. */
typedef struct nst_exit_policy {
    uint32_t paths[NST_LADDER_MAX];
    uint32_t count;  /* of paths, 1 to NST_LADDER_MAX */
    uint32_t signal; /* an nst_exit_signal */
    /* Of each path but the last. Sure: confidence or margin of at least this, entropy of at most
     * this. */
    float thresholds[NST_LADDER_MAX];
} nst_exit_policy;

/* `thresholds`: [count - 1]. False when a number makes no sense. */
bool nst_exit_policy_init(nst_exit_policy *policy, const uint32_t *paths, const float *thresholds,
                          uint32_t count, nst_exit_signal signal);
nst_token_policy nst_exit_policy_use(nst_exit_policy *policy);

/* Self-speculation (Draft & Verify, arXiv:2309.08168; LayerSkip, arXiv:2404.16710): draft with a
 * small path, verify with the large one in one run. The output is what the large path alone would
 * give. */
typedef struct nst_speculative_policy {
    uint32_t draft;
    uint32_t verify;
    uint32_t tokens;  /* of a draft; nst_decoder_info.verify_tokens is best */
    float confidence; /* a draft ends early behind a token of less; 0: never */
} nst_speculative_policy;

nst_token_policy nst_speculative_policy_use(nst_speculative_policy *policy);

/* Budget: the largest path that keeps a rate of tokens, by the costs that are measured on the way;
 * time that is left over may be spent within the next `horizon` tokens. */
typedef struct nst_rate_policy {
    nst_policy costs;
    double token_us; /* that a token may take */
    uint32_t horizon;
} nst_rate_policy;

/* `costs`: [paths], the caller's, as in nst_policy_init. False when a number makes no sense. */
bool nst_rate_policy_init(nst_rate_policy *policy, nst_policy_cost *costs, uint32_t paths,
                          double tokens_per_second, uint32_t horizon);
nst_token_policy nst_rate_policy_use(nst_rate_policy *policy);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
