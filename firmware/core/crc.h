/* Checksums: against accidents, not against people. */
#ifndef NESTLING_CORE_CRC_H
#define NESTLING_CORE_CRC_H

#include <stddef.h>
#include <stdint.h>

/* CRC-16/XMODEM of `bytes` more bytes; start with 0. */
uint16_t nst_crc16(uint16_t crc, const uint8_t *data, size_t bytes);

/* CRC-32 (IEEE 802.3, as in zlib) of `bytes` more bytes; start with 0. */
uint32_t nst_crc32(uint32_t crc, const uint8_t *data, size_t bytes);

#endif
