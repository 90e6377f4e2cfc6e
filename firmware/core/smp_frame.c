#include "smp_frame.h"

#include "crc.h"

enum { START_1 = 0x06, START_2 = 0x09, MORE_1 = 0x04, MORE_2 = 0x14, CRC_BYTES = 2 };

/* Where the decoder is in the line. */
enum state {
    BETWEEN = 0,   /* outside of a line: anything may stand here */
    AFTER_START_1, /* 06 was seen */
    AFTER_MORE_1,  /* 04 was seen */
    IN_LINE        /* base64 */
};

void nst_smp_decoder_init(nst_smp_decoder *decoder, uint8_t *buffer, size_t room) {
    *decoder = (nst_smp_decoder){.buffer = buffer, .room = room, .state = BETWEEN};
}

/* Forget the message that was begun. */
static void forget(nst_smp_decoder *decoder) {
    decoder->used = 0;
    decoder->expected = 0;
    decoder->length_bytes = 0;
    decoder->bits = 0;
    decoder->bit_count = 0;
    decoder->padding = 0;
    decoder->characters = 0;
    decoder->open = false;
    decoder->state = BETWEEN;
}

static void give_up(nst_smp_decoder *decoder) {
    if (decoder->open) {
        decoder->bad++;
    }
    forget(decoder);
}

/* Value of a base64 character, or -1. */
static int sextet(uint8_t byte) {
    if (byte >= 'A' && byte <= 'Z') {
        return byte - 'A';
    }
    if (byte >= 'a' && byte <= 'z') {
        return byte - 'a' + 26;
    }
    if (byte >= '0' && byte <= '9') {
        return byte - '0' + 52;
    }
    return byte == '+' ? 62 : byte == '/' ? 63 : -1;
}

/* A byte of the length, or of what follows it. False: the message cannot be taken. */
static bool add_byte(nst_smp_decoder *decoder, uint8_t byte) {
    if (decoder->length_bytes == 0) {
        decoder->length_high = byte;
        decoder->length_bytes = 1;
        return true;
    }
    if (decoder->length_bytes == 1) {
        decoder->expected = (size_t)decoder->length_high << 8 | byte;
        decoder->length_bytes = 2;
        return decoder->expected >= CRC_BYTES && decoder->expected <= decoder->room;
    }
    if (decoder->used == decoder->expected) {
        return false;
    }
    decoder->buffer[decoder->used++] = byte;
    return true;
}

/* One character of base64. A group of four ends with at most two '=', and then the message ends
 * too. */
static bool add_character(nst_smp_decoder *decoder, uint8_t character) {
    decoder->characters = (decoder->characters + 1) & 3;
    if (character == '=') {
        decoder->padding++;
        /* What was left of the last byte must be zero: one message has one spelling. */
        return decoder->padding <= 2 && decoder->characters != 1 && decoder->characters != 2 &&
               decoder->bits == 0;
    }
    int value = sextet(character);
    if (value < 0 || decoder->padding > 0) {
        return false;
    }
    decoder->bits = decoder->bits << 6 | (uint32_t)value;
    decoder->bit_count = (uint8_t)(decoder->bit_count + 6);
    if (decoder->bit_count < 8) {
        return true;
    }
    decoder->bit_count = (uint8_t)(decoder->bit_count - 8);
    uint8_t byte = (uint8_t)(decoder->bits >> decoder->bit_count);
    decoder->bits &= (1u << decoder->bit_count) - 1;
    return add_byte(decoder, byte);
}

/* The newline: true if the message is complete and right. */
static bool end_line(nst_smp_decoder *decoder, size_t *out_bytes) {
    decoder->state = BETWEEN;
    if (decoder->characters != 0) { /* every line holds whole groups */
        give_up(decoder);
        return false;
    }
    if (decoder->length_bytes < 2 || decoder->used < decoder->expected) {
        if (decoder->padding > 0) {
            give_up(decoder);
        }
        return false;
    }
    size_t bytes = decoder->used - CRC_BYTES;
    uint16_t crc = (uint16_t)(decoder->buffer[bytes] << 8 | decoder->buffer[bytes + 1]);
    if (nst_crc16(0, decoder->buffer, bytes) != crc) {
        give_up(decoder);
        return false;
    }
    forget(decoder);
    decoder->good++;
    *out_bytes = bytes;
    return true;
}

bool nst_smp_decoder_take(nst_smp_decoder *decoder, uint8_t byte, size_t *out_bytes) {
    /* Neither of the first bytes of a delimiter occurs in base64: where one stands, something
     * begins. */
    if (byte == START_1 || byte == MORE_1) {
        if (decoder->state == IN_LINE) {
            give_up(decoder);
        }
        decoder->state = byte == START_1 ? AFTER_START_1 : AFTER_MORE_1;
        return false;
    }
    switch (decoder->state) {
        case AFTER_START_1:
            decoder->state = BETWEEN;
            if (byte == START_2) {
                give_up(decoder); /* the message before was not finished */
                decoder->open = true;
                decoder->state = IN_LINE;
            }
            return false;
        case AFTER_MORE_1:
            decoder->state = byte == MORE_2 && decoder->open ? IN_LINE : BETWEEN;
            return false;
        case IN_LINE:
            if (byte == '\n') {
                return end_line(decoder, out_bytes);
            }
            if (byte != '\r' && !add_character(decoder, byte)) {
                give_up(decoder);
            }
            return false;
        default:
            return false;
    }
}

/* Base64 of a message and what surrounds it, a line at a time. */
typedef struct writer {
    nst_smp_put_bytes put;
    void *self;
    uint32_t bits;
    uint32_t group; /* bytes in `bits`, 0..2 */
    size_t used;    /* of the line */
    bool first;
    uint8_t line[NST_SMP_LINE_BYTES + 1];
} writer;

static void start_line(writer *out) {
    out->line[0] = out->first ? START_1 : MORE_1;
    out->line[1] = out->first ? START_2 : MORE_2;
    out->used = 2;
    out->first = false;
}

static void flush(writer *out) {
    out->line[out->used++] = '\n';
    out->put(out->self, out->line, out->used);
    out->used = 0;
}

static uint8_t letter(uint32_t value) {
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    return (uint8_t)letters[value & 63];
}

/* Write the group as four characters, of which the last `missing` are padding. */
static void end_group(writer *out, uint32_t missing) {
    if (out->used == 0) {
        start_line(out);
    }
    for (uint32_t i = 0; i < 4; i++) {
        out->line[out->used++] = i + missing >= 4 ? '=' : letter(out->bits >> (18 - 6 * i));
    }
    out->bits = 0;
    out->group = 0;
    if (out->used + 4 > NST_SMP_LINE_BYTES - 1) {
        flush(out);
    }
}

static void write_byte(writer *out, uint8_t byte) {
    out->bits |= (uint32_t)byte << (16 - 8 * out->group);
    if (++out->group == 3) {
        end_group(out, 0);
    }
}

void nst_smp_encode(const uint8_t *message, size_t bytes, nst_smp_put_bytes put, void *self) {
    uint16_t crc = nst_crc16(0, message, bytes);
    size_t length = bytes + CRC_BYTES;
    writer out = {.put = put, .self = self, .first = true};
    write_byte(&out, (uint8_t)(length >> 8));
    write_byte(&out, (uint8_t)length);
    for (size_t i = 0; i < bytes; i++) {
        write_byte(&out, message[i]);
    }
    write_byte(&out, (uint8_t)(crc >> 8));
    write_byte(&out, (uint8_t)crc);
    if (out.group > 0) {
        uint32_t missing = 3 - out.group;
        end_group(&out, missing);
    }
    if (out.used > 0) {
        flush(&out);
    }
}
