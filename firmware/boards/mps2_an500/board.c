/* Arm's MPS2 board with the AN500 image (Cortex-M7) or AN386 (Cortex-M4F), 25 MHz. Emulated by
 * QEMU as mps2-an500 and mps2-an386. */
#include "../cortex_m/board.h"

#include "../cortex_m/cmsdk_uart.h"

#define UART0 ((nst_cmsdk_uart *)0x40004000u)

/* Timer of Arm's design kit (CMSDK APB timer): counts down at 25 MHz. */
typedef struct cmsdk_timer {
    volatile uint32_t control; /* bit 0: run */
    volatile uint32_t value;
    volatile uint32_t reload;
} cmsdk_timer;

#define TIMER0 ((cmsdk_timer *)0x40000000u)

const char nst_board_name[] = NESTLING_MACHINE;

void nst_board_start(void) {
    nst_cmsdk_uart_start(UART0, 25000000u / 115200u);
    TIMER0->reload = UINT32_MAX;
    TIMER0->value = UINT32_MAX;
    TIMER0->control = 1;
}

void nst_board_put(uint8_t byte) {
    nst_cmsdk_uart_put(UART0, byte);
}

int nst_board_get(void) {
    return nst_cmsdk_uart_get(UART0);
}

/* With -icount shift=6 an instruction takes 64 ns, and the timer ticks every 40 ns: 1.6 ticks an
 * instruction. Asked at least once in 2.6 thousand million instructions, it does not wrap. */
uint64_t nst_board_instructions(void) {
    static uint64_t ticks;
    const uint32_t low = UINT32_MAX - TIMER0->value;
    ticks += low - (uint32_t)ticks;
    return ticks * 5 / 8;
}

uint8_t *nst_board_memory(uint32_t *out_bytes) {
    extern uint8_t nst_psram_free[], nst_psram_end[];
    *out_bytes = (uint32_t)(nst_psram_end - nst_psram_free);
    return nst_psram_free;
}
