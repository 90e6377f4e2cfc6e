/* Text without libc: checking, comparing, and writing short messages into a fixed buffer. */
#ifndef NESTLING_CORE_TEXT_H
#define NESTLING_CORE_TEXT_H

#include "bundle.h"

/* Well-formed UTF-8: no overlong form, no surrogate, nothing over U+10FFFF. */
bool nst_text_is_utf8(nst_text text);

/* A name of the format: 1..127 bytes of UTF-8 without control characters (C0, DEL, C1). */
bool nst_text_is_name(nst_text text);

/* Bytewise order, a prefix first: negative, 0 or positive. */
int nst_text_compare(nst_text a, nst_text b);

/* CBOR's canonical order of map keys: shorter first, then bytewise. */
int nst_text_compare_canonical(nst_text a, nst_text b);

/* Writes text into a buffer and keeps it zero-terminated; what does not fit is cut at a UTF-8
 * border. */
typedef struct nst_writer {
    char *buffer;
    size_t room; /* size of the buffer, at least 1 */
    size_t used; /* without the terminating zero */
    bool full;
} nst_writer;

void nst_writer_start(nst_writer *writer, char *buffer, size_t room);
void nst_write(nst_writer *writer, const char *text); /* null is an empty text */
void nst_write_text(nst_writer *writer, nst_text text);
void nst_write_number(nst_writer *writer, uint64_t number);

/* Set `err->stage` to a text of the bundle. `err` may be null. */
void nst_error_stage(nst_error *err, nst_text name);

/* Set `err->section` to "tables[i]". `err` may be null. */
void nst_error_entry(nst_error *err, nst_table table, uint32_t i);

#endif
