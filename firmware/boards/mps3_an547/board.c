/* Arm's MPS3 board with the AN547 image: Corstone SSE-300, a Cortex-M55 at 32 MHz. Emulated by
 * QEMU as mps3-an547. */
#include "../cortex_m/board.h"

#include "../cortex_m/cmsdk_uart.h"

#define UART0 ((nst_cmsdk_uart *)0x49303000u)
#define COUNTER_CONTROL (*(volatile uint32_t *)0x58100000u)
#define COUNTER_LOW (*(volatile uint32_t *)0x48101000u)
#define COUNTER_HIGH (*(volatile uint32_t *)0x48101004u)

const char nst_board_name[] = "mps3-an547";

void nst_board_start(void) {
    nst_cmsdk_uart_start(UART0, 25000000u / 115200u);
    COUNTER_CONTROL = 1;
}

void nst_board_put(uint8_t byte) {
    nst_cmsdk_uart_put(UART0, byte);
}

int nst_board_get(void) {
    return nst_cmsdk_uart_get(UART0);
}

/* With -icount shift=5 an instruction takes 32 ns, and the system counter ticks every 31.25 ns:
 * 1.024 ticks an instruction. */
uint64_t nst_board_instructions(void) {
    uint32_t high = COUNTER_HIGH;
    uint32_t low = COUNTER_LOW;
    while (high != COUNTER_HIGH) {
        high = COUNTER_HIGH;
        low = COUNTER_LOW;
    }
    return (((uint64_t)high << 32) | low) * 125 / 128;
}

uint8_t *nst_board_memory(uint32_t *out_bytes) {
    extern uint8_t nst_sram_free[], nst_sram_end[];
    *out_bytes = (uint32_t)(nst_sram_end - nst_sram_free);
    return nst_sram_free;
}
