/* The timer of Arm's design kit (CMSDK APB timer): counts down at the clock of its bus. */
#ifndef NESTLING_BOARDS_CORTEX_M_CMSDK_TIMER_H
#define NESTLING_BOARDS_CORTEX_M_CMSDK_TIMER_H

#include <stdint.h>

typedef struct nst_cmsdk_timer {
    volatile uint32_t control; /* bit 0: run */
    volatile uint32_t value;
    volatile uint32_t reload;
} nst_cmsdk_timer;

static inline void nst_cmsdk_timer_start(nst_cmsdk_timer *timer) {
    timer->reload = UINT32_MAX;
    timer->value = UINT32_MAX;
    timer->control = 1;
}

/* Ticks since the start. `ticks` holds the last answer, at first 0: asked at least once while the
 * 32 bits run round, it counts on. */
static inline uint64_t nst_cmsdk_timer_ticks(const nst_cmsdk_timer *timer, uint64_t *ticks) {
    const uint32_t low = UINT32_MAX - timer->value;
    *ticks += low - (uint32_t)*ticks;
    return *ticks;
}

#endif
