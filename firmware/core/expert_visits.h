/* Where requests are in the round of layers, and so which layer is visited when: what several
 * policies of the expert cache know. */
#ifndef NESTLING_CORE_EXPERT_VISITS_H
#define NESTLING_CORE_EXPERT_VISITS_H

#include "expert_eviction.h"

/* Of the requests that visited a layer last, the i-th (from 1) is over when that was more than i times
 * so many rounds of the layers ago: requests that take turns, token by token, each wait i - 1. */
#define NST_EXPERT_IDLE_ROUNDS 2u

typedef struct nst_expert_visits {
    uint64_t now; /* visits so far */
    uint64_t when[NST_EXPERT_REQUESTS];
    uint32_t layer[NST_EXPERT_REQUESTS]; /* that was visited last */
    uint32_t layers;
    uint32_t reserved;
} nst_expert_visits;

void nst_expert_visits_start(nst_expert_visits *visits, const nst_expert_shape *shape);
void nst_expert_visits_note(nst_expert_visits *visits, const nst_expert_visit *visit);

/* Visits until each layer is visited again, by whichever request comes first: 0 for the next layer,
 * layers - 1 for the one just visited. `out`: [layers]. */
void nst_expert_visits_distances(const nst_expert_visits *visits, uint32_t *out);

#endif
