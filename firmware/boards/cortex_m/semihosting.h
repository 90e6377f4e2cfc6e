/* Semihosting: asking the debugger, or QEMU with -semihosting-config enable=on, to do something. */
#ifndef NESTLING_BOARDS_CORTEX_M_SEMIHOSTING_H
#define NESTLING_BOARDS_CORTEX_M_SEMIHOSTING_H

#include <stdint.h>

/* End the program: under QEMU the process, with this exit status. Without a debugger the
 * processor faults. */
__attribute__((noreturn)) static inline void nst_semihosting_exit(uint32_t status) {
    const uint32_t block[2] = {0x20026u /* ADP_Stopped_ApplicationExit */, status};
    register uint32_t operation __asm__("r0") = 0x20u; /* SYS_EXIT_EXTENDED */
    register const uint32_t *argument __asm__("r1") = block;
    for (;;) {
        __asm__ volatile("bkpt 0xab" : "+r"(operation) : "r"(argument) : "memory");
    }
}

#endif
