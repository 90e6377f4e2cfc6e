#include "expert_visits.h"

void nst_expert_visits_start(nst_expert_visits *visits, const nst_expert_shape *shape) {
    *visits = (nst_expert_visits){.layers = shape->layers};
}

void nst_expert_visits_note(nst_expert_visits *visits, const nst_expert_visit *visit) {
    visits->when[visit->request] = ++visits->now;
    visits->layer[visit->request] = visit->layer;
}

static bool is_running(const nst_expert_visits *visits, uint32_t request) {
    const uint64_t when = visits->when[request];
    uint64_t rank = 0;
    for (uint32_t other = 0; other < NST_EXPERT_REQUESTS; other++) {
        rank += visits->when[other] >= when;
    }
    return when > 0 && visits->now - when <= rank * NST_EXPERT_IDLE_ROUNDS * visits->layers;
}

void nst_expert_visits_distances(const nst_expert_visits *visits, uint32_t *out) {
    const uint32_t layers = visits->layers;
    for (uint32_t layer = 0; layer < layers; layer++) {
        out[layer] = layers - 1;
    }
    for (uint32_t request = 0; request < NST_EXPERT_REQUESTS; request++) {
        if (!is_running(visits, request)) {
            continue;
        }
        uint32_t next = visits->layer[request];
        for (uint32_t distance = 0; distance < layers; distance++) {
            next = next + 1 < layers ? next + 1 : 0;
            if (distance < out[next]) {
                out[next] = distance;
            }
        }
    }
}
