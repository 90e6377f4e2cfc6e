#include "route_policy.h"

#include <float.h>
#include <stddef.h>

#include "exponential.h"

/* Asked for a model of another size: a level that no layer has ends the generation. */
#define NO_LEVEL UINT32_MAX

/* 1 / sqrt(x) for x > 0, to float's precision: Newton's steps from a first guess by the exponent. */
static float inverse_root(float x) {
    uint32_t bits;
    float y;
    memcpy(&bits, &x, sizeof bits);
    bits = 0x5f3759dfu - (bits >> 1);
    memcpy(&y, &bits, sizeof y);
    for (int i = 0; i < 4; i++) {
        y *= 1.5f - 0.5f * x * y * y;
    }
    return y;
}

/* 1 / rms of a stream, as torch's RMSNorm without weights has it. */
static float inverse_rms(const float *stream, uint32_t dim) {
    double sum = 0;
    for (uint32_t i = 0; i < dim; i++) {
        sum += (double)stream[i] * (double)stream[i];
    }
    return inverse_root((float)(sum / dim) + FLT_EPSILON);
}

static float dot(const float *a, const float *b, uint32_t count) {
    float sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

static float silu(float x) {
    return x / (1.0f + nst_exp(-x));
}

bool nst_route_policy_init(nst_route_policy *policy) {
    if (policy == NULL || policy->dim == 0 || policy->hidden == 0 || policy->routes == 0 ||
        policy->layers == 0 || policy->hidden_weight == NULL || policy->hidden_bias == NULL ||
        policy->output_weight == NULL || policy->output_bias == NULL || policy->costs == NULL ||
        policy->levels == NULL || policy->scratch == NULL || !(policy->price >= 0.0f)) {
        return false;
    }
    policy->route = 0;
    return true;
}

static void pick_route(nst_route_policy *policy, const float *stream) {
    const float scale = inverse_rms(stream, policy->dim);
    float least = FLT_MAX;
    policy->route = 0;
    for (uint32_t i = 0; i < policy->hidden; i++) {
        const float *weight = policy->hidden_weight + (size_t)i * policy->dim;
        policy->scratch[i] =
            silu(dot(weight, stream, policy->dim) * scale + policy->hidden_bias[i]);
    }
    for (uint32_t i = 0; i < policy->routes; i++) {
        const float *weight = policy->output_weight + (size_t)i * policy->hidden;
        const float loss = dot(weight, policy->scratch, policy->hidden) + policy->output_bias[i] +
                           policy->price * policy->costs[i];
        if (loss < least) {
            least = loss;
            policy->route = i;
        }
    }
}

static void choose_routed(void *self, const nst_token_signals *last, nst_token_choice *out) {
    const nst_route_policy *policy = self;
    (void)last;
    out->path = policy->path;
}

static uint32_t follow_route(void *self, const nst_layer_input *at) {
    nst_route_policy *policy = self;
    if (at->dim != policy->dim || policy->layers > at->layers) {
        return NO_LEVEL;
    }
    const uint32_t first = at->layers - policy->layers;
    if (at->layer < first) {
        return at->path_level;
    }
    if (at->layer == first) {
        pick_route(policy, at->stream);
    }
    return policy->levels[(size_t)policy->route * policy->layers + (at->layer - first)];
}

nst_token_policy nst_route_policy_use(nst_route_policy *policy) {
    return (nst_token_policy){.self = policy, .choose = choose_routed, .route = follow_route};
}

bool nst_layer_route_policy_init(nst_layer_route_policy *policy) {
    if (policy == NULL || policy->dim == 0 || policy->layers == 0 ||
        policy->layers > NST_ROUTE_LAYERS_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < policy->layers; i++) {
        const nst_layer_router *router = &policy->routers[i];
        if (router->weight != NULL && (router->bias == NULL || router->levels == 0)) {
            return false;
        }
    }
    return true;
}

static void choose_layered(void *self, const nst_token_signals *last, nst_token_choice *out) {
    const nst_layer_route_policy *policy = self;
    (void)last;
    out->path = policy->path;
}

static uint32_t pick_level(void *self, const nst_layer_input *at) {
    const nst_layer_route_policy *policy = self;
    if (at->dim != policy->dim || at->layers != policy->layers) {
        return NO_LEVEL;
    }
    const nst_layer_router *router = &policy->routers[at->layer];
    if (router->weight == NULL) {
        return at->path_level;
    }
    const float scale = inverse_rms(at->stream, at->dim);
    float largest = -FLT_MAX;
    uint32_t picked = at->path_level;
    for (uint32_t i = at->skippable != 0 ? 0 : 1; i < router->levels; i++) {
        const float *weight = router->weight + (size_t)i * at->dim;
        const float score = dot(weight, at->stream, at->dim) * scale + router->bias[i];
        if (score > largest) {
            largest = score;
            picked = i;
        }
    }
    return picked;
}

nst_token_policy nst_layer_route_policy_use(nst_layer_route_policy *policy) {
    return (nst_token_policy){.self = policy, .choose = choose_layered, .route = pick_level};
}
