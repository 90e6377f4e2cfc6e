#include "serial.h"

#include "boards/cortex_m/board.h"
#include "boards/cortex_m/cmsdk_uart.h"
#include "boards/cortex_m/system.h"
#include "watchdog.h"

#define UART0 ((nst_cmsdk_uart *)0x49303000u)

enum { RECEIVE_INTERRUPT = 33, RECEIVE_ENABLE = 1 << 3, RECEIVED = 1 << 1, RING_BYTES = 8192 };

static struct {
    volatile uint32_t in;  /* written by the interrupt only */
    volatile uint32_t out; /* and by whoever takes */
    uint32_t lost;
    void (*service)(void);
    uint8_t bytes[RING_BYTES];
} ring;

static uint32_t vectors[NST_VECTORS] __attribute__((aligned(512)));

static void on_receive(void) {
    UART0->interrupt = RECEIVED;
    int byte;
    while ((byte = nst_cmsdk_uart_get(UART0)) >= 0) {
        if (ring.in - ring.out == RING_BYTES) {
            ring.lost++;
        } else {
            ring.bytes[ring.in % RING_BYTES] = (uint8_t)byte;
            ring.in++;
        }
    }
    if (ring.service != NULL) {
        nst_pend_service();
    }
}

static void on_service(void) {
    ring.service();
}

/* The NMI: nobody fed the watchdog. */
static void on_watchdog(void) {
    nst_system_reset();
}

void serial_start(void (*service)(void)) {
    const volatile uint32_t *first = (const volatile uint32_t *)(uintptr_t)NST_VTOR;
    for (uint32_t i = 0; i < 16; i++) {
        vectors[i] = first[i];
    }
    vectors[2] = (uint32_t)(uintptr_t)on_watchdog;
    vectors[14] = (uint32_t)(uintptr_t)on_service;
    vectors[16 + RECEIVE_INTERRUPT] = (uint32_t)(uintptr_t)on_receive;
    ring.service = service;
    NST_VTOR = (uint32_t)(uintptr_t)vectors;
    nst_pend_service_lowest();
    nst_barrier();
    nst_interrupts_off();
    UART0->control |= RECEIVE_ENABLE;
    nst_interrupt_enable(RECEIVE_INTERRUPT);
    on_receive(); /* a byte that came in before raised no interrupt */
    nst_interrupts_on();
}

int serial_take(void) {
    if (ring.in == ring.out) {
        return -1;
    }
    uint8_t byte = ring.bytes[ring.out % RING_BYTES];
    ring.out++;
    return byte;
}

uint8_t serial_wait(void) {
    int byte;
    while ((byte = serial_take()) < 0) {
        /* An interrupt between the look and the sleep stays pending, and ends the sleep. */
        nst_interrupts_off();
        if (ring.in == ring.out) {
            nst_watchdog_stop();
            nst_wait_for_interrupt();
            nst_watchdog_start();
        }
        nst_interrupts_on();
    }
    return (uint8_t)byte;
}

void serial_put(void *self, const uint8_t *data, size_t bytes) {
    (void)self;
    for (size_t i = 0; i < bytes; i++) {
        nst_board_put(data[i]);
    }
}

uint32_t serial_lost(void) {
    return ring.lost;
}
