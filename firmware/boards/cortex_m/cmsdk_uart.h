/* The serial port of Arm's design kit (CMSDK APB UART): 8N1, one byte of buffer each way, no
 * flow control. */
#ifndef NESTLING_BOARDS_CORTEX_M_CMSDK_UART_H
#define NESTLING_BOARDS_CORTEX_M_CMSDK_UART_H

#include <stdint.h>

typedef struct nst_cmsdk_uart {
    volatile uint32_t data;
    volatile uint32_t state;   /* bit 0: the transmit buffer is full; bit 1: a byte was received */
    volatile uint32_t control; /* bit 0: transmit; bit 1: receive; bits 2 and 3: their interrupts */
    volatile uint32_t interrupt; /* as control's bits 2 and 3, shifted by 2; write one to clear */
    volatile uint32_t divider;   /* clock / baud rate, at least 16 */
} nst_cmsdk_uart;

static inline void nst_cmsdk_uart_start(nst_cmsdk_uart *uart, uint32_t divider) {
    uart->divider = divider;
    uart->control = 3;
}

static inline void nst_cmsdk_uart_put(nst_cmsdk_uart *uart, uint8_t byte) {
    while (uart->state & 1u) {
    }
    uart->data = byte;
}

static inline int nst_cmsdk_uart_get(nst_cmsdk_uart *uart) {
    return uart->state & 2u ? (int)(uart->data & 0xFFu) : -1;
}

#endif
