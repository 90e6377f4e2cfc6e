/* Routers: small feed-forward, big feed-forward or no layer at all, for each layer and token
 * (Duo-LLM, arXiv:2410.10846). They see the residual stream; their weights are the caller's arrays.
 * Plain C11, no heap.
 */
#ifndef NESTLING_CORE_ROUTE_POLICY_H
#define NESTLING_CORE_ROUTE_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "token_policy.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define NST_ROUTE_LAYERS_MAX 64u

/* One router for all layers, asked at the first one that may be left out: it predicts what each of a
 * list of routes would lose, and takes the one of the least
 *     loss + price * cost,  loss = output(silu(hidden(x / rms(x)))),
 * the first of equals. As nestling.language.router trains it. */
typedef struct nst_route_policy {
    uint32_t path;              /* whose layers are routed: the deepest one that a route takes */
    uint32_t dim;               /* of the stream */
    uint32_t hidden;            /* neurons, at least 1 */
    uint32_t routes;            /* at least 1 */
    uint32_t layers;            /* that a route names, the model's last ones */
    float price;                /* loss that a unit of cost is worth, not negative */
    const float *hidden_weight; /* [hidden][dim] */
    const float *hidden_bias;   /* [hidden] */
    const float *output_weight; /* [routes][hidden] */
    const float *output_bias;   /* [routes] */
    const float *costs;         /* [routes] */
    const uint8_t *levels;      /* [routes][layers], 0: the layer is left out */
    float *scratch;             /* [hidden], written */
    uint32_t route;             /* what the policy remembers: of the token that is being made */
} nst_route_policy;

/* Whether `policy`, whose parameters are set, makes sense. */
bool nst_route_policy_init(nst_route_policy *policy);
nst_token_policy nst_route_policy_use(nst_route_policy *policy);

/* A linear router at each layer: it takes the level of the largest score,
 *     weight x / rms(x) + bias,
 * the first of equals; level 0 leaves the layer out, and counts only where that may be. */
typedef struct nst_layer_router {
    const float *weight; /* [levels][dim]; null: the path's own level */
    const float *bias;   /* [levels] */
    uint32_t levels;     /* that it scores, 0 included; at least 1 */
    uint32_t reserved;   /* zero */
} nst_layer_router;

typedef struct nst_layer_route_policy {
    uint32_t path;   /* whose layers are routed */
    uint32_t dim;    /* of the stream */
    uint32_t layers; /* of the model, at most NST_ROUTE_LAYERS_MAX */
    uint32_t reserved;
    nst_layer_router routers[NST_ROUTE_LAYERS_MAX]; /* [layers] */
} nst_layer_route_policy;

bool nst_layer_route_policy_init(nst_layer_route_policy *policy);
nst_token_policy nst_layer_route_policy_use(nst_layer_route_policy *policy);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
