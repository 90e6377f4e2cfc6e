/* From reset to main on any Cortex-M: coprocessors, memory, vector table. The linker script of
 * the board gives the symbols. */
#include <stdint.h>

#include "board.h"
#include "semihosting.h"

extern uint32_t nst_stack_top[];
extern uint32_t nst_data_load[], nst_data_begin[], nst_data_end[];
extern uint32_t nst_bss_begin[], nst_bss_end[];

int main(void);
void nst_reset(void);
void nst_fault(void);
void nst_sys_tick(void);

#define CPACR (*(volatile uint32_t *)0xE000ED88u)
#define CCR (*(volatile uint32_t *)0xE000ED14u)

#define CCR_BRANCH_PREDICTION (1u << 18)
#define CCR_LOOP_CACHE (1u << 19) /* Armv8.1-M: without it LE branches like any other instruction */

void nst_reset(void) {
    CPACR |= 0xFu << 20; /* FPU and MVE */
    CCR |= CCR_BRANCH_PREDICTION | CCR_LOOP_CACHE;
    __asm__ volatile("dsb\n\tisb" ::: "memory");
    const uint32_t *from = nst_data_load;
    for (uint32_t *to = nst_data_begin; to < nst_data_end; ++to) {
        *to = *from++;
    }
    for (uint32_t *to = nst_bss_begin; to < nst_bss_end; ++to) {
        *to = 0;
    }
    nst_board_start();
    nst_semihosting_exit((uint32_t)main());
}

/* Weak: a firmware may have better ones. */
__attribute__((weak)) void nst_fault(void) {
    for (const char *text = "\nfault\n"; *text != 0; ++text) {
        nst_board_put((uint8_t)*text);
    }
    nst_semihosting_exit(70);
}

__attribute__((weak)) void nst_sys_tick(void) {}

/* Interrupts are polled for, so the table ends with the system's own. */
__attribute__((section(".vectors"), used)) static void *const vectors[16] = {
    nst_stack_top,
    (void *)nst_reset,
    (void *)nst_fault,
    (void *)nst_fault,
    (void *)nst_fault,
    (void *)nst_fault,
    (void *)nst_fault,
    (void *)nst_fault,
    0,
    0,
    0,
    (void *)nst_fault,
    (void *)nst_fault,
    0,
    (void *)nst_fault,
    (void *)nst_sys_tick,
};
