/* The board's watchdog (CMSDK, on its 32 kHz clock): while the firmware works, the processor is
 * reset when nobody feeds it for a minute. It stands still while the firmware waits for a byte. A
 * bundle on trial that hangs is thus taken back. */
#ifndef NESTLING_BOARDS_MPS3_AN547_WATCHDOG_H
#define NESTLING_BOARDS_MPS3_AN547_WATCHDOG_H

#include <stdint.h>

#define NST_WATCHDOG_SECONDS 60u

typedef struct nst_watchdog {
    volatile uint32_t load;
    volatile uint32_t value;
    volatile uint32_t
        control; /* bit 0: count, interrupt (NMI) at zero; bit 1: reset at the second zero */
    volatile uint32_t clear; /* any write: no interrupt, count from `load` again */
} nst_watchdog;

#define NST_WATCHDOG ((nst_watchdog *)0x4802E000u)
#define NST_WATCHDOG_LOCK (*(volatile uint32_t *)0x4802EC00u)

static inline void nst_watchdog_start(void) {
    NST_WATCHDOG_LOCK = 0x1ACCE551u;
    NST_WATCHDOG->load = NST_WATCHDOG_SECONDS * 32768u;
    NST_WATCHDOG->control = 3;
}

static inline void nst_watchdog_feed(void) {
    NST_WATCHDOG->clear = 1;
}

static inline void nst_watchdog_stop(void) {
    NST_WATCHDOG->control = 0;
}

#endif
