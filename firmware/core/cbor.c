#include "cbor.h"

#include <float.h>
#include <string.h>
#include <zcbor_decode.h>

#include "text.h"

#ifndef ZCBOR_CANONICAL
#error \
    "zcbor must be built with ZCBOR_CANONICAL: the format knows shortest and definite lengths only"
#endif

/* One value, one list or map around it, and zcbor's constant part. */
#define STATES 3

static void start(zcbor_state_t states[STATES], const nst_cursor *cursor) {
    zcbor_new_decode_state(states, STATES, cursor->at, (size_t)(cursor->end - cursor->at), 1, NULL,
                           0);
}

bool nst_take_u64(nst_cursor *cursor, uint64_t *out) {
    zcbor_state_t states[STATES];
    start(states, cursor);
    bool taken = zcbor_uint64_decode(states, out);
    cursor->at = states[0].payload;
    return taken;
}

bool nst_take_u32(nst_cursor *cursor, uint32_t *out) {
    zcbor_state_t states[STATES];
    start(states, cursor);
    bool taken = zcbor_uint32_decode(states, out);
    cursor->at = states[0].payload;
    return taken;
}

bool nst_take_negative(nst_cursor *cursor, int64_t *out) {
    zcbor_state_t states[STATES];
    start(states, cursor);
    bool taken = zcbor_int64_decode(states, out);
    cursor->at = states[0].payload;
    return taken && *out < 0;
}

bool nst_take_bool(nst_cursor *cursor, bool *out) {
    zcbor_state_t states[STATES];
    start(states, cursor);
    bool taken = zcbor_bool_decode(states, out);
    cursor->at = states[0].payload;
    return taken;
}

bool nst_take_null(nst_cursor *cursor) {
    zcbor_state_t states[STATES];
    start(states, cursor);
    bool taken = zcbor_nil_expect(states, NULL);
    cursor->at = states[0].payload;
    return taken;
}

/* Whether a finite f32 is an f16 too: then the f32 form is not the shortest one. */
static bool fits_half(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t exponent = (bits >> 23) & 0xFF; /* biased by 127; f16 is normal from 113 to 142 */
    uint32_t mantissa = bits & 0x7FFFFF;     /* 23 bits, of which f16 keeps the upper 10 */
    if (exponent == 0) {
        return mantissa == 0; /* zero, or far below the smallest f16 */
    }
    if (exponent >= 113 && exponent <= 142) {
        return (mantissa & 0x1FFF) == 0;
    }
    if (exponent >= 103 && exponent < 113) {
        /* A subnormal f16 is a multiple of 2^-24: so many low bits must be zero, the leading one
         * included. */
        uint32_t dropped = 13 + (113 - exponent);
        return ((mantissa | 0x800000) & ((1u << dropped) - 1)) == 0;
    }
    return false;
}

bool nst_take_float(nst_cursor *cursor, double *out) {
    zcbor_state_t states[STATES];
    uint8_t width = nst_peek_byte(cursor); /* 0xF9 f16, 0xFA f32, 0xFB f64 */
    start(states, cursor);
    bool taken = zcbor_float_decode(states, out);
    cursor->at = states[0].payload;
    if (!taken || !(*out >= -DBL_MAX && *out <= DBL_MAX)) {
        return false;
    }
    if (width == 0xFB) {
        return *out < -(double)FLT_MAX || *out > (double)FLT_MAX || (double)(float)*out != *out;
    }
    return width == 0xF9 || !fits_half((float)*out);
}

bool nst_take_text(nst_cursor *cursor, nst_text *out) {
    zcbor_state_t states[STATES];
    struct zcbor_string text = {NULL, 0};
    start(states, cursor);
    bool taken = zcbor_tstr_decode(states, &text);
    cursor->at = states[0].payload;
    if (!taken) {
        return false;
    }
    out->data = (const char *)text.value;
    out->bytes = text.len;
    return nst_text_is_utf8(*out);
}

bool nst_take_name(nst_cursor *cursor, nst_text *out) {
    return nst_take_text(cursor, out) && nst_text_is_name(*out);
}

bool nst_take_key(nst_cursor *cursor, const char *key) {
    zcbor_state_t states[STATES];
    struct zcbor_string text = {(const uint8_t *)key, strlen(key)};
    start(states, cursor);
    bool taken = zcbor_tstr_expect(states, &text);
    cursor->at = states[0].payload;
    return taken;
}

bool nst_take_list(nst_cursor *cursor, uint32_t *out_count) {
    zcbor_state_t states[STATES];
    start(states, cursor);
    bool taken = zcbor_list_start_decode(states);
    size_t count = states[0].elem_count;
    cursor->at = states[0].payload;
    if (!taken || count > (size_t)(cursor->end - cursor->at) || count > UINT32_MAX) {
        return false;
    }
    *out_count = (uint32_t)count;
    return true;
}

bool nst_take_map(nst_cursor *cursor, uint32_t *out_count) {
    zcbor_state_t states[STATES];
    start(states, cursor);
    bool taken = zcbor_map_start_decode(states);
    size_t values = states[0].elem_count; /* keys and values together */
    cursor->at = states[0].payload;
    if (!taken || values > (size_t)(cursor->end - cursor->at) || values / 2 > UINT32_MAX) {
        return false;
    }
    *out_count = (uint32_t)(values / 2);
    return true;
}

unsigned nst_peek_major(const nst_cursor *cursor) {
    return cursor->at < cursor->end ? (unsigned)(*cursor->at >> 5) : 8;
}

uint8_t nst_peek_byte(const nst_cursor *cursor) {
    return cursor->at < cursor->end ? *cursor->at : 0xFF;
}
