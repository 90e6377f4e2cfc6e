#include "placement.h"

#include <float.h>

static bool possible(double us) {
    return us >= 0 && us <= DBL_MAX; /* false for NaN */
}

/* Cheapest way to be on target `to` in a step, given the costs `before` of all targets one step
 * earlier. Negative: none. `*from` is where it comes from. */
static double arrive(const double *before, const double *moves, uint32_t targets, uint32_t to,
                     uint8_t *from) {
    double best = -1;
    for (uint32_t t = 0; t < targets; t++) {
        double move = moves == NULL ? 0 : moves[(size_t)t * targets + to];
        if (!possible(before[t]) || !possible(move)) {
            continue;
        }
        double us = before[t] + move;
        if (possible(us) && (best < 0 || us < best)) {
            best = us;
            *from = (uint8_t)t;
        }
    }
    return best;
}

int nst_placement_search(const nst_placement *placement, uint32_t *out_choice, uint8_t *scratch,
                         double *out_us) {
    double costs[2][NST_MAX_TARGETS] = {{0}};
    if (placement == NULL || out_choice == NULL || scratch == NULL || placement->stage_us == NULL ||
        placement->steps == 0 || placement->targets == 0 || placement->targets > NST_MAX_TARGETS ||
        placement->steps > NST_MAX_POSITIONS) {
        return NST_E_ARGUMENT;
    }
    const uint32_t targets = placement->targets;
    for (uint32_t i = 0; i < placement->steps; i++) {
        const double *stage = placement->stage_us + (size_t)i * targets;
        const double *moves = placement->move_us;
        if (moves != NULL && i > 0) {
            moves += (size_t)(i - 1) * targets * targets;
        }
        for (uint32_t t = 0; t < targets; t++) {
            uint8_t *from = scratch + (size_t)i * targets + t;
            double *to = &costs[i % 2][t];
            *from = 0;
            *to = i == 0 ? 0 : arrive(costs[1 - i % 2], moves, targets, t, from);
            *to = possible(*to) && possible(stage[t]) ? *to + stage[t] : -1;
        }
    }
    const double *last = costs[(placement->steps - 1) % 2];
    uint32_t at = NST_NONE;
    for (uint32_t t = 0; t < targets; t++) {
        if (possible(last[t]) && (at == NST_NONE || last[t] < last[at])) {
            at = t;
        }
    }
    if (at == NST_NONE) {
        return NST_E_NOT_FOUND;
    }
    if (out_us != NULL) {
        *out_us = last[at];
    }
    for (uint32_t i = placement->steps; i > 0; i--) {
        out_choice[i - 1] = at;
        at = scratch[(size_t)(i - 1) * targets + at];
    }
    return NST_OK;
}
