/* Interrupts, reset and sleep of any Cortex-M. */
#ifndef NESTLING_BOARDS_CORTEX_M_SYSTEM_H
#define NESTLING_BOARDS_CORTEX_M_SYSTEM_H

#include <stdint.h>

#define NST_VTOR (*(volatile uint32_t *)0xE000ED08u)
#define NST_AIRCR (*(volatile uint32_t *)0xE000ED0Cu)
#define NST_ICSR (*(volatile uint32_t *)0xE000ED04u)
#define NST_SHPR3 (*(volatile uint32_t *)0xE000ED20u)
#define NST_NVIC_ISER ((volatile uint32_t *)0xE000E100u)

#define NST_VECTORS 128 /* of the table: those of the processor, 16, and of its interrupts */

static inline void nst_barrier(void) {
    __asm__ volatile("dsb\n\tisb" ::: "memory");
}

/* Reset processor and peripherals. Memory stays as it is. */
__attribute__((noreturn)) static inline void nst_system_reset(void) {
    nst_barrier();
    NST_AIRCR = 0x05FA0004u;
    nst_barrier();
    for (;;) {
    }
}

static inline void nst_interrupts_off(void) {
    __asm__ volatile("cpsid i" ::: "memory");
}

static inline void nst_interrupts_on(void) {
    __asm__ volatile("cpsie i" ::: "memory");
}

/* Sleep until an interrupt is pending; it is taken when interrupts are on again. */
static inline void nst_wait_for_interrupt(void) {
    __asm__ volatile("dsb\n\twfi" ::: "memory");
}

static inline void nst_interrupt_enable(unsigned number) {
    NST_NVIC_ISER[number / 32] = 1u << (number % 32);
}

/* Let PendSV, the interrupt of lowest priority, run when no other one does. */
static inline void nst_pend_service(void) {
    NST_ICSR = 1u << 28;
}

static inline void nst_pend_service_lowest(void) {
    NST_SHPR3 |= 0xFFu << 16;
}

#endif
