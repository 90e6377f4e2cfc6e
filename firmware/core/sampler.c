#include "sampler.h"

#include <stddef.h>

#include "exponential.h"

#define LANES 16u

static const float log2_e = 1.44269504088896341f;

/* log2 of x >= 1, to about 1e-7: sums of exponentials are at least 1 and need no more. */
static float log2_of(float x) {
    uint32_t bits;
    int32_t exponent;
    float s;
    float s2;
    memcpy(&bits, &x, sizeof bits);
    exponent = (int32_t)(bits >> 23) - 127;
    bits = (bits & 0x7fffffu) | 0x3f800000u;
    memcpy(&x, &bits, sizeof x);
    if (x > 1.41421356f) {
        x *= 0.5f;
        exponent++;
    }
    /* ln x = 2 artanh((x - 1) / (x + 1)) */
    s = (x - 1.0f) / (x + 1.0f);
    s2 = s * s;
    s = 2.0f * s *
        (1.0f + s2 * (1.0f / 3.0f + s2 * (0.2f + s2 * (1.0f / 7.0f + s2 * (1.0f / 9.0f)))));
    return (float)exponent + s * log2_e;
}

/* Largest and second largest logit, and the first token of the largest; false: not all finite. */
static bool find_best(const float *logits, uint32_t count, float *second, uint32_t *best) {
    const float limit = 3.0e38f;
    float largest = -limit;
    *second = -limit;
    *best = 0;
    for (uint32_t i = 0; i < count; i++) {
        const float x = logits[i];
        if (!(x > -limit && x < limit)) {
            return false;
        }
        if (x > largest) {
            *second = largest;
            largest = x;
            *best = i;
        } else if (x > *second) {
            *second = x;
        }
    }
    return true;
}

/* How far a logit is below the largest, as far as nst_exp can tell: beyond that its probability is
 * nothing, but a masked token's distance times nothing might be something. */
static inline float distance(float logit, float largest) {
    const float z = logit - largest;
    return z > -87.0f ? z : -87.0f;
}

bool nst_measure_logits(const float *logits, uint32_t count, nst_logit_signals *out) {
    float totals[LANES] = {0};
    float moments[LANES] = {0};
    float second = 0;
    float total = 0;
    float moment = 0;
    uint32_t i = 0;
    if (count == 0 || !find_best(logits, count, &second, &out->best)) {
        return false;
    }
    const float largest = logits[out->best];
    for (; i + LANES <= count; i += LANES) {
        for (uint32_t lane = 0; lane < LANES; lane++) {
            const float z = distance(logits[i + lane], largest);
            const float e = nst_exp(z);
            totals[lane] += e;
            moments[lane] += e * z;
        }
    }
    for (; i < count; i++) {
        const float z = distance(logits[i], largest);
        const float e = nst_exp(z);
        totals[i % LANES] += e;
        moments[i % LANES] += e * z;
    }
    for (uint32_t lane = 0; lane < LANES; lane++) {
        total += totals[lane];
        moment += moments[lane];
    }
    /* -sum p log p = log(total) - sum p z */
    out->entropy_bits = log2_of(total) - moment / total * log2_e;
    if (out->entropy_bits < 0.0f) {
        out->entropy_bits = 0.0f;
    }
    out->confidence = 1.0f / total;
    out->margin = count > 1 ? (1.0f - nst_exp(second - largest)) / total : 1.0f;
    return true;
}

bool nst_sampler_init(nst_sampler *sampler, const nst_sampling *sampling, nst_candidate *candidates,
                      uint32_t vocabulary) {
    if (sampler == NULL || sampling == NULL || candidates == NULL || vocabulary == 0 ||
        !(sampling->temperature >= 0.0f && sampling->temperature < 1e6f) ||
        !(sampling->top_p >= 0.0f && sampling->top_p <= 1.0f)) {
        return false;
    }
    sampler->sampling = *sampling;
    sampler->candidates = candidates;
    sampler->vocabulary = vocabulary;
    sampler->state = sampling->seed;
    return true;
}

/* A number in [0, 1). */
static double next_uniform(nst_sampler *sampler) {
    uint64_t z = sampler->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (double)(z >> 11) * (1.0 / 9007199254740992.0);
}

static bool ranks_before(nst_candidate a, nst_candidate b) {
    return a.weight > b.weight || (a.weight == b.weight && a.token < b.token);
}

/* Let the candidate at `at` sink to its place in the heap of `count`, whose top ranks first. */
static void sink(nst_candidate *heap, uint32_t count, uint32_t at) {
    const nst_candidate moving = heap[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= count) {
            break;
        }
        if (child + 1 < count && ranks_before(heap[child + 1], heap[child])) {
            child++;
        }
        if (!ranks_before(heap[child], moving)) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

/* Move the candidates that may be drawn to the end of the array, the first in rank last; returns
 * how many. */
static uint32_t truncate(nst_sampler *sampler, double total) {
    nst_candidate *heap = sampler->candidates;
    const uint32_t most =
        sampler->sampling.top_k != 0 && sampler->sampling.top_k < sampler->vocabulary
            ? sampler->sampling.top_k
            : sampler->vocabulary;
    const float p = sampler->sampling.top_p;
    const bool nucleus = p > 0.0f && p < 1.0f;
    uint32_t left = sampler->vocabulary;
    uint32_t kept = 0;
    double sum = 0;
    for (uint32_t i = left / 2; i-- > 0;) {
        sink(heap, left, i);
    }
    while (kept < most) {
        const nst_candidate first = heap[0];
        heap[0] = heap[left - 1];
        heap[--left] = first;
        sink(heap, left, 0);
        sum += first.weight;
        kept++;
        /* top_p of all that top_k leaves: its sum is only known when top_k is done. */
        if (nucleus && most == sampler->vocabulary && sum >= p * total) {
            return kept;
        }
    }
    if (nucleus) {
        double reached = 0;
        for (uint32_t i = 0; i < kept; i++) {
            reached += heap[sampler->vocabulary - 1 - i].weight;
            if (reached >= p * sum) {
                return i + 1;
            }
        }
    }
    return kept;
}

uint32_t nst_sampler_draw(nst_sampler *sampler, const float *logits, uint32_t best) {
    const nst_sampling *sampling = &sampler->sampling;
    const uint32_t count = sampler->vocabulary;
    nst_candidate *candidates = sampler->candidates;
    const bool all = (sampling->top_k == 0 || sampling->top_k >= count) &&
                     (sampling->top_p <= 0.0f || sampling->top_p >= 1.0f);
    double total = 0;
    uint32_t kept = count;
    if (sampling->temperature <= 0.0f) {
        return best;
    }
    for (uint32_t i = 0; i < count; i++) {
        const float weight = nst_exp((logits[i] - logits[best]) / sampling->temperature);
        candidates[i].weight = weight;
        candidates[i].token = i;
        total += weight;
    }
    if (!all) {
        kept = truncate(sampler, total);
        total = 0;
        for (uint32_t i = 0; i < kept; i++) {
            total += candidates[count - 1 - i].weight;
        }
    }
    const double target = next_uniform(sampler) * total;
    double sum = 0;
    for (uint32_t i = 0; i < kept; i++) {
        const nst_candidate candidate = candidates[all ? i : count - 1 - i];
        sum += candidate.weight;
        if (sum > target) {
            return candidate.token;
        }
    }
    return best;
}

uint32_t nst_top_candidates(const float *logits, uint32_t vocabulary, uint32_t count,
                            nst_candidate *out) {
    uint32_t kept = 0;
    float total = 0;
    for (uint32_t token = 0; token < vocabulary && count != 0; token++) {
        uint32_t at = kept < count ? kept++ : count;
        if (at == count) {
            if (!(logits[token] > out[count - 1].weight)) {
                continue;
            }
            at = count - 1;
        }
        for (; at > 0 && logits[token] > out[at - 1].weight; at--) {
            out[at] = out[at - 1];
        }
        out[at] = (nst_candidate){.weight = logits[token], .token = token};
    }
    const float largest = kept != 0 ? out[0].weight : 0;
    for (uint32_t i = 0; i < kept; i++) {
        out[i].weight = nst_exp(out[i].weight - largest);
        total += out[i].weight;
    }
    for (uint32_t i = 0; i < kept; i++) {
        out[i].weight /= total;
    }
    return kept;
}
