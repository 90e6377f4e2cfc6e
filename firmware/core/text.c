#include "text.h"

#include <string.h>

#include "divide.h"

/* Bytes of the UTF-8 sequence at `at`, of which `left` bytes are there; 0 when it is not
 * well-formed. */
static size_t sequence_bytes(const uint8_t *at, size_t left, uint32_t *out_point) {
    uint8_t lead = at[0];
    size_t bytes;
    uint32_t point;
    uint32_t smallest;
    if (lead < 0x80) {
        *out_point = lead;
        return 1;
    } else if (lead >= 0xC2 && lead < 0xE0) {
        bytes = 2, point = lead & 0x1Fu, smallest = 0x80;
    } else if (lead >= 0xE0 && lead < 0xF0) {
        bytes = 3, point = lead & 0x0Fu, smallest = 0x800;
    } else if (lead >= 0xF0 && lead < 0xF5) {
        bytes = 4, point = lead & 0x07u, smallest = 0x10000;
    } else {
        return 0;
    }
    if (left < bytes) {
        return 0;
    }
    for (size_t i = 1; i < bytes; i++) {
        if ((at[i] & 0xC0) != 0x80) {
            return 0;
        }
        point = (point << 6) | (at[i] & 0x3Fu);
    }
    if (point < smallest || point > 0x10FFFF || (point >= 0xD800 && point < 0xE000)) {
        return 0;
    }
    *out_point = point;
    return bytes;
}

static bool is_text(nst_text text, bool controls_allowed) {
    const uint8_t *data = (const uint8_t *)text.data;
    size_t i = 0;
    while (i < text.bytes) {
        uint32_t point = 0;
        size_t bytes = sequence_bytes(data + i, text.bytes - i, &point);
        if (bytes == 0) {
            return false;
        }
        if (!controls_allowed && (point < 0x20 || (point >= 0x7F && point < 0xA0))) {
            return false;
        }
        i += bytes;
    }
    return true;
}

bool nst_text_is_utf8(nst_text text) {
    return is_text(text, true);
}

bool nst_text_is_name(nst_text text) {
    return text.bytes >= 1 && text.bytes <= NST_MAX_NAME_BYTES && is_text(text, false);
}

int nst_text_compare(nst_text a, nst_text b) {
    size_t common = a.bytes < b.bytes ? a.bytes : b.bytes;
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    if (order != 0) {
        return order;
    }
    return (a.bytes > b.bytes) - (a.bytes < b.bytes);
}

int nst_text_compare_canonical(nst_text a, nst_text b) {
    if (a.bytes != b.bytes) {
        return a.bytes < b.bytes ? -1 : 1;
    }
    return nst_text_compare(a, b);
}

void nst_writer_start(nst_writer *writer, char *buffer, size_t room) {
    writer->buffer = buffer;
    writer->room = room;
    writer->used = 0;
    writer->full = false;
    buffer[0] = '\0';
}

void nst_write_text(nst_writer *writer, nst_text text) {
    size_t left = writer->room - 1 - writer->used;
    size_t bytes = text.bytes;
    if (writer->full) {
        return;
    }
    if (bytes > left) {
        /* Step back over continuation bytes, so that no character is cut in two. */
        bytes = left;
        while (bytes > 0 && ((uint8_t)text.data[bytes] & 0xC0) == 0x80) {
            bytes--;
        }
        writer->full = true;
    }
    if (bytes > 0) {
        memcpy(writer->buffer + writer->used, text.data, bytes);
    }
    writer->used += bytes;
    writer->buffer[writer->used] = '\0';
}

/* A sentence that is not on the device, by where it is. */
static bool write_apart(nst_writer *writer, const char *text) {
#ifdef NST_TEXTS_APART
    if ((uintptr_t)text >= NST_TEXTS_APART) {
        nst_write(writer, "\xC2\xA7"); /* a section sign */
        nst_write_number(writer, (uintptr_t)text - NST_TEXTS_APART);
        nst_write(writer, ";");
        return true;
    }
#else
    (void)writer;
    (void)text;
#endif
    return false;
}

void nst_write(nst_writer *writer, const char *text) {
    if (text != NULL && !write_apart(writer, text)) {
        nst_write_text(writer, (nst_text){text, strlen(text)});
    }
}

void nst_write_number(nst_writer *writer, uint64_t number) {
    char digits[20];
    size_t first = sizeof digits;
    do {
        uint16_t digit;
        number = nst_divide_u64(number, 10, &digit);
        digits[--first] = (char)('0' + digit);
    } while (number != 0);
    nst_write_text(writer, (nst_text){digits + first, sizeof digits - first});
}

void nst_error_stage(nst_error *err, nst_text name) {
    if (err != NULL) {
        nst_writer writer;
        nst_writer_start(&writer, err->stage, sizeof err->stage);
        nst_write_text(&writer, name);
    }
}

void nst_error_entry(nst_error *err, nst_table table, uint32_t i) {
    static const char *const names[NST_TABLES] = {"sections",  "slots",  "constants", "programs",
                                                  "positions", "stages", "paths"};
    if (err != NULL) {
        nst_writer writer;
        nst_writer_start(&writer, err->section, sizeof err->section);
        nst_write(&writer, names[table]);
        nst_write(&writer, "[");
        nst_write_number(&writer, i);
        nst_write(&writer, "]");
    }
}
