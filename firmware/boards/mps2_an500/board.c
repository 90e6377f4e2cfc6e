/* Arm's MPS2 board with the AN500 image (Cortex-M7) or AN386 (Cortex-M4F), 25 MHz. Emulated by
 * QEMU as mps2-an500 and mps2-an386. */
#include "../cortex_m/board.h"

#include "../cortex_m/cmsdk_timer.h"
#include "../cortex_m/cmsdk_uart.h"

#define UART0 ((nst_cmsdk_uart *)0x40004000u)
#define TIMER0 ((nst_cmsdk_timer *)0x40000000u)

const char nst_board_name[] = NESTLING_MACHINE;

void nst_board_start(void) {
    nst_cmsdk_uart_start(UART0, 25000000u / 115200u);
    nst_cmsdk_timer_start(TIMER0);
}

void nst_board_put(uint8_t byte) {
    nst_cmsdk_uart_put(UART0, byte);
}

int nst_board_get(void) {
    return nst_cmsdk_uart_get(UART0);
}

/* With -icount shift=6 an instruction takes 64 ns, and the timer ticks every 40 ns: 1.6 ticks an
 * instruction. */
uint64_t nst_board_instructions(void) {
    static uint64_t ticks;
    return nst_cmsdk_timer_ticks(TIMER0, &ticks) * 5 / 8;
}

uint8_t *nst_board_memory(uint32_t *out_bytes) {
    extern uint8_t nst_psram_free[], nst_psram_end[];
    *out_bytes = (uint32_t)(nst_psram_end - nst_psram_free);
    return nst_psram_free;
}
