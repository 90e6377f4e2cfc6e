/* A cursor over CBOR: takes one value at a time through zcbor's runtime, in constant memory.
 *
 * Every function returns false when the next value is not what was asked for, is not in its
 * shortest form, has an indefinite length or does not fit into the bytes that are left; the cursor
 * is then of no further use. */
#ifndef NESTLING_CORE_CBOR_H
#define NESTLING_CORE_CBOR_H

#include "bundle.h"

typedef struct nst_cursor {
    const uint8_t *at;
    const uint8_t *end;
} nst_cursor;

bool nst_take_u64(nst_cursor *cursor, uint64_t *out);
bool nst_take_u32(nst_cursor *cursor, uint32_t *out);
bool nst_take_negative(nst_cursor *cursor, int64_t *out);
bool nst_take_bool(nst_cursor *cursor, bool *out);
bool nst_take_null(nst_cursor *cursor);
bool nst_take_float(nst_cursor *cursor,
                    double *out); /* finite, in the shortest width that holds it */
bool nst_take_text(nst_cursor *cursor, nst_text *out);  /* any UTF-8 */
bool nst_take_name(nst_cursor *cursor, nst_text *out);  /* see nst_text_is_name */
bool nst_take_key(nst_cursor *cursor, const char *key); /* exactly this text */

/* Head of a list or map; `out_count` elements or pairs follow. A count that cannot fit into the
 * bytes that are left is refused here, before anybody loops over it. */
bool nst_take_list(nst_cursor *cursor, uint32_t *out_count);
bool nst_take_map(nst_cursor *cursor, uint32_t *out_count);

/* Major type (0..7) of the next value, or 8 at the end. */
unsigned nst_peek_major(const nst_cursor *cursor);

/* Initial byte of the next value, or 0xFF (which no value of the format starts with) at the end. */
uint8_t nst_peek_byte(const nst_cursor *cursor);

#endif
