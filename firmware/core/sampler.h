/* From logits to a token: what a distribution looks like, and drawing from it.
 *
 * Plain C11, no heap: the caller gives room for the candidates. The same seed and logits give the
 * same tokens on every machine whose floats are IEEE 754.
 */
#ifndef NESTLING_CORE_SAMPLER_H
#define NESTLING_CORE_SAMPLER_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* What a policy sees of a distribution. All of softmax(logits), before temperature. */
typedef struct nst_logit_signals {
    float entropy_bits; /* -sum p log2 p */
    float confidence;   /* the largest p */
    float margin;       /* the largest p less the second largest */
    uint32_t best;      /* token of the largest; the first of equals */
} nst_logit_signals;

/* `count` at least 1. False, and *out is unspecified, when a logit is not finite. */
bool nst_measure_logits(const float *logits, uint32_t count, nst_logit_signals *out);

/* How to draw. All zeros is greedy. */
typedef struct nst_sampling {
    float temperature; /* 0: the most probable token */
    uint32_t top_k;    /* only the k most probable tokens; 0: all */
    float top_p;       /* only the most probable ones that together reach p; 0 or 1: all */
    uint32_t reserved; /* zero */
    uint64_t seed;
} nst_sampling;

typedef struct nst_candidate {
    float weight; /* exp((logit - largest) / temperature) */
    uint32_t token;
} nst_candidate;

typedef struct nst_sampler {
    nst_sampling sampling;
    nst_candidate *candidates; /* [vocabulary], the caller's */
    uint32_t vocabulary;
    uint64_t state; /* of the generator, SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) */
} nst_sampler;

/* False when the temperature or top_p is out of its range, or a pointer is null. */
bool nst_sampler_init(nst_sampler *sampler, const nst_sampling *sampling, nst_candidate *candidates,
                      uint32_t vocabulary);

/* Draw a token from logits that nst_measure_logits has accepted. Truncation is by top_k first, then
 * by top_p of what is left; equals in the order of their tokens. */
uint32_t nst_sampler_draw(nst_sampler *sampler, const float *logits, uint32_t best);

/* The `count` likeliest tokens, at most `vocabulary` of them, likeliest first, into out[count]; their
 * weights are brought to a sum of 1. Returns how many. From logits that nst_measure_logits has
 * accepted; takes O(vocabulary * count) at worst, about O(vocabulary) as a rule. */
uint32_t nst_top_candidates(const float *logits, uint32_t vocabulary, uint32_t count,
                            nst_candidate *out);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
