/* What a program for a bare Cortex-M board may ask of the board. Each board's folder has
 * board.c. */
#ifndef NESTLING_BOARDS_CORTEX_M_BOARD_H
#define NESTLING_BOARDS_CORTEX_M_BOARD_H

#include <stdint.h>

/* The name of the emulated machine, as QEMU spells it. */
extern const char nst_board_name[];

/* Called by the start-up code before main: serial port, counter. */
void nst_board_start(void);

/* Send one byte on the first serial port; waits until there is room. */
void nst_board_put(uint8_t byte);

/* The next byte that the first serial port received, or -1. */
int nst_board_get(void);

/* Instructions since the start, where the emulator counts them (-icount shift=..., said in each
 * board.c); elsewhere a clock of about one tick an instruction. */
uint64_t nst_board_instructions(void);

/* The board's large memory. A read or write just past its end faults. */
uint8_t *nst_board_memory(uint32_t *out_bytes);

#endif
