#include "inner_policy.h"

#include <stddef.h>

static uint32_t accept_as_inner(void *self, const nst_token_signals *now) {
    const nst_token_policy *inner = self;
    return inner->accept(inner->self, now);
}

static uint32_t route_as_inner(void *self, const nst_layer_input *at) {
    const nst_token_policy *inner = self;
    return inner->route(inner->self, at);
}

nst_token_policy nst_around_inner(nst_token_policy *inner,
                                  void (*choose)(void *self, const nst_token_signals *last,
                                                 nst_token_choice *out)) {
    return (nst_token_policy){.self = inner,
                              .choose = choose,
                              .accept = inner->accept != NULL ? accept_as_inner : NULL,
                              .route = inner->route != NULL ? route_as_inner : NULL};
}
