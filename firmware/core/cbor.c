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

/* The bits of an f32 as f16 would lose nothing: then the f32 form is not the shortest one. */
static bool fits_half(double value) {
    return (double)zcbor_float16_to_32(zcbor_float32_to_16((float)value)) == value;
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
    return width == 0xF9 || !fits_half(*out);
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
