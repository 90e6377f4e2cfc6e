#include "crc.h"

uint16_t nst_crc16(uint16_t crc, const uint8_t *data, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        /* Eight steps of the shift register at once, for the polynomial x^16 + x^12 + x^5 + 1. */
        uint16_t x = (uint16_t)(crc >> 8) ^ data[i];
        x ^= (uint16_t)(x >> 4);
        crc = (uint16_t)((crc << 8) ^ (x << 12) ^ (x << 5) ^ x);
    }
    return crc;
}

uint32_t nst_crc32(uint32_t crc, const uint8_t *data, size_t bytes) {
    crc = ~crc;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1u)));
        }
    }
    return ~crc;
}
