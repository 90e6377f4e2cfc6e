/* SMP on a serial line: messages as lines of base64.
 *
 *     06 09 base64(length, message, CRC)... \n      first line of a message
 *     04 14 base64(...) \n                          further ones
 *
 * Length and CRC-16 (xmodem, of the message) are big-endian; the length counts message and CRC.
 * Anything else on the line, such as a log, is passed over.
 */
#ifndef NESTLING_CORE_SMP_FRAME_H
#define NESTLING_CORE_SMP_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define NST_SMP_LINE_BYTES 127u /* longest line that is sent, without its newline */

/* Takes a byte at a time. The caller gives the buffer and reads it between a return of true and the
 * next byte. */
typedef struct nst_smp_decoder {
    uint8_t *buffer;      /* [room] message and CRC */
    size_t room;          /* at least 2 more than the longest message */
    size_t used;          /* bytes in the buffer */
    size_t expected;      /* bytes of message and CRC, once length_bytes is 2 */
    uint32_t bits;        /* of base64 that are no whole byte yet */
    uint8_t bit_count;    /* 0, 2, 4 or 6 */
    uint8_t characters;   /* of the group of four, 0..3 */
    uint8_t padding;      /* '=' seen in this message */
    uint8_t length_bytes; /* of the length, 0..2 */
    uint8_t length_high;
    uint8_t state;
    bool open;     /* a message has begun */
    uint32_t good; /* messages decoded since the start */
    uint32_t bad;  /* messages that came to nothing: damaged, cut or too large */
} nst_smp_decoder;

void nst_smp_decoder_init(nst_smp_decoder *decoder, uint8_t *buffer, size_t room);

/* True when `byte` completes a message whose CRC is right: decoder->buffer[0 .. *out_bytes). */
bool nst_smp_decoder_take(nst_smp_decoder *decoder, uint8_t byte, size_t *out_bytes);

/* Sends bytes to the line; `self` is the caller's. */
typedef void (*nst_smp_put_bytes)(void *self, const uint8_t *data, size_t bytes);

/* Send one message of at most 65533 bytes, a call of `put` a line. */
void nst_smp_encode(const uint8_t *message, size_t bytes, nst_smp_put_bytes put, void *self);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
