/* Arm's MPS2 board with the AN505 image: IoT Kit, a Cortex-M33 at 20 MHz, in secure state. Emulated
 * by QEMU as mps2-an505. */
#include "../cortex_m/board.h"

#include "../cortex_m/cmsdk_timer.h"
#include "../cortex_m/cmsdk_uart.h"

#define UART0 ((nst_cmsdk_uart *)0x50200000u)
#define TIMER0 ((nst_cmsdk_timer *)0x50000000u)

const char nst_board_name[] = "mps2-an505";

void nst_board_start(void) {
    nst_cmsdk_uart_start(UART0, 20000000u / 115200u);
    nst_cmsdk_timer_start(TIMER0);
}

void nst_board_put(uint8_t byte) {
    nst_cmsdk_uart_put(UART0, byte);
}

int nst_board_get(void) {
    return nst_cmsdk_uart_get(UART0);
}

/* With -icount shift=6 an instruction takes 64 ns, and the timer ticks every 50 ns: 1.28 ticks an
 * instruction. */
uint64_t nst_board_instructions(void) {
    static uint64_t ticks;
    return nst_cmsdk_timer_ticks(TIMER0, &ticks) * 25 / 32;
}

uint8_t *nst_board_memory(uint32_t *out_bytes) {
    extern uint8_t nst_psram_free[], nst_psram_end[];
    *out_bytes = (uint32_t)(nst_psram_end - nst_psram_free);
    return nst_psram_free;
}
