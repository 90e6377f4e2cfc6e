/* From a router's scores to experts: which ones each token goes to, with what weight, and which
 * tokens each expert gets (SPEC.md, Experts). Plain C11 without libm and heap.
 */
#ifndef NESTLING_CORE_EXPERT_ROUTING_H
#define NESTLING_CORE_EXPERT_ROUTING_H

#include "expert_index.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* Softmax over each row. scores, probabilities: [tokens][experts]. */
void nst_expert_softmax(const float *scores, uint32_t tokens, uint32_t experts,
                        float *probabilities);

/* The `count` largest of `experts` numbers, largest first; of equals the lower number, and what is no
 * number last. `count` is at most `experts`. */
void nst_expert_top(const float *numbers, uint32_t experts, uint32_t count, uint32_t *out);

/* Choose for each token by its scores. scores, probabilities: [tokens][experts]; chosen: [tokens]
 * [top_k], the best first; weights: the same, the probabilities of the chosen, divided by their sum if
 * the layer says so. */
void nst_expert_choose(const nst_expert_layer *layer, const float *scores,
                       const float *probabilities, uint32_t tokens, uint32_t *chosen,
                       float *weights);

/* Tokens by expert: those of expert e are rows[first[e]] .. rows[first[e + 1] - 1], ascending.
 * chosen: [tokens][top_k]; first: [experts + 1]; rows: [tokens * top_k]; places: [tokens][top_k] where
 * in `rows` each choice went. */
void nst_expert_gather(const uint32_t *chosen, uint32_t tokens, uint32_t top_k, uint32_t experts,
                       uint32_t *first, uint32_t *rows, uint32_t *places);

/* out[token] = sum over i of weights[token][i] * results[places[token][i]], in this order. results:
 * rows of `dim` numbers; out: [tokens][dim]. */
void nst_expert_combine(const float *weights, const uint32_t *places, uint32_t tokens,
                        uint32_t top_k, uint32_t dim, const float *results, float *out);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
