/* The first serial port by interrupt: what comes in waits in a ring until somebody takes it. */
#ifndef NESTLING_BOARDS_MPS3_AN547_SERIAL_H
#define NESTLING_BOARDS_MPS3_AN547_SERIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Start to receive. `service` (may be null) runs at the lowest interrupt priority after each byte
 * that came in, as long as serial_wait is not waiting. */
void serial_start(void (*service)(void));

/* The next byte, or -1. */
int serial_take(void);

/* The next byte; sleeps until there is one. */
uint8_t serial_wait(void);

/* Send, waiting for the port. */
void serial_put(void *self, const uint8_t *data, size_t bytes);

/* Bytes that found the ring full. */
uint32_t serial_lost(void);

#endif
