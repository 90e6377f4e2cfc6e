#include "expert_routing.h"

#include <string.h>

#include "exponential.h"

void nst_expert_softmax(const float *scores, uint32_t tokens, uint32_t experts,
                        float *probabilities) {
    for (uint32_t token = 0; token < tokens; token++) {
        const float *from = scores + (size_t)token * experts;
        float *to = probabilities + (size_t)token * experts;
        float largest = from[0];
        float total = 0.0f;
        for (uint32_t e = 1; e < experts; e++) {
            largest = from[e] > largest ? from[e] : largest;
        }
        for (uint32_t e = 0; e < experts; e++) {
            to[e] = nst_exp(from[e] - largest);
        }
        for (uint32_t e = 0; e < experts; e++) {
            total += to[e];
        }
        for (uint32_t e = 0; e < experts; e++) {
            to[e] /= total;
        }
    }
}

/* Whether `a` comes before `b`: it is larger, or b is no number and a is one. */
static bool larger(float a, float b) {
    return a > b || (a == a && b != b);
}

void nst_expert_top(const float *numbers, uint32_t experts, uint32_t count, uint32_t *out) {
    /* One pass, keeping the best so far in order: most numbers are compared with the last one only. */
    uint32_t kept = 0;
    for (uint32_t e = 0; e < experts && count > 0; e++) {
        uint32_t at;
        if (kept == count && !larger(numbers[e], numbers[out[kept - 1]])) {
            continue;
        }
        at = kept < count ? kept++ : kept - 1;
        while (at > 0 && larger(numbers[e], numbers[out[at - 1]])) {
            out[at] = out[at - 1];
            at--;
        }
        out[at] = e;
    }
}

void nst_expert_choose(const nst_expert_layer *layer, const float *scores,
                       const float *probabilities, uint32_t tokens, uint32_t *chosen,
                       float *weights) {
    for (uint32_t token = 0; token < tokens; token++) {
        const float *row = probabilities + (size_t)token * layer->experts;
        uint32_t *best = chosen + (size_t)token * layer->top_k;
        float *weight = weights + (size_t)token * layer->top_k;
        float total = 0.0f;
        nst_expert_top(scores + (size_t)token * layer->experts, layer->experts, layer->top_k, best);
        for (uint32_t i = 0; i < layer->top_k; i++) {
            weight[i] = row[best[i]];
            total += weight[i];
        }
        for (uint32_t i = 0; i < layer->top_k && (layer->flags & NST_EXPERT_RENORMALISE) != 0;
             i++) {
            weight[i] /= total;
        }
    }
}

void nst_expert_gather(const uint32_t *chosen, uint32_t tokens, uint32_t top_k, uint32_t experts,
                       uint32_t *first, uint32_t *rows, uint32_t *places) {
    const size_t all = (size_t)tokens * top_k;
    memset(first, 0, ((size_t)experts + 1) * sizeof *first);
    for (size_t i = 0; i < all; i++) {
        first[chosen[i] + 1]++;
    }
    for (uint32_t e = 0; e < experts; e++) {
        first[e + 1] += first[e];
    }
    /* Each expert's place moves to its end, which is where the next one's began. */
    for (size_t i = 0; i < all; i++) {
        places[i] = first[chosen[i]]++;
        rows[places[i]] = (uint32_t)(i / top_k);
    }
    for (uint32_t e = experts; e > 0; e--) {
        first[e] = first[e - 1];
    }
    first[0] = 0;
}

void nst_expert_combine(const float *weights, const uint32_t *places, uint32_t tokens,
                        uint32_t top_k, uint32_t dim, const float *results, float *out) {
    memset(out, 0, (size_t)tokens * dim * sizeof *out);
    for (uint32_t token = 0; token < tokens; token++) {
        float *to = out + (size_t)token * dim;
        for (uint32_t i = 0; i < top_k; i++) {
            const float weight = weights[(size_t)token * top_k + i];
            const float *from = results + (size_t)places[(size_t)token * top_k + i] * dim;
            for (uint32_t d = 0; d < dim; d++) {
                to[d] += weight * from[d];
            }
        }
    }
}
