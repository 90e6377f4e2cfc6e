#include "smp_codec.h"

#include <string.h>
#include <zcbor_decode.h>
#include <zcbor_encode.h>

#include "sentence.h"
#include "text.h"

/* Entries that a list of an answer has at most; sets the size of its head while it is written. */
enum { MOST_ENTRIES = 0xFFFF };

static int fail_member(nst_error *err, const char *key, const char *what) {
    if (err != NULL) {
        nst_writer writer;
        nst_fail_in(err, NST_E_ARGUMENT, NULL, NULL);
        nst_writer_start(&writer, err->message, sizeof err->message);
        nst_write(&writer, "member '");
        nst_write(&writer, key);
        nst_write(&writer, NST_TEXT("' of the request "));
        nst_write(&writer, what);
    }
    return NST_E_ARGUMENT;
}

static int fail_body(nst_error *err, const char *message) {
    return nst_fail_in(err, NST_E_ARGUMENT, NULL, message);
}

static unsigned major_type(const zcbor_state_t *state) {
    return state->payload < state->payload_end ? (unsigned)(*state->payload >> 5) : 8;
}

/* Pass over one value. Without recursion: a list in a list takes one of the few levels that zcbor
 * was given, and there are no more. */
static bool skip(zcbor_state_t *state) {
    unsigned depth = 0;
    do {
        bool done;
        if (depth > 0 && zcbor_array_at_end(state)) {
            done = zcbor_list_end_decode(state); /* the end of a map is the same */
            depth--;
        } else if (major_type(state) == 4) {
            done = zcbor_list_start_decode(state);
            depth++;
        } else if (major_type(state) == 5) {
            done = zcbor_map_start_decode(state);
            depth++;
        } else {
            /* zcbor would recurse into what a tag stands before; SMP knows no tags. */
            done = major_type(state) != 6 && zcbor_any_skip(state, NULL);
        }
        if (!done) {
            return false;
        }
    } while (depth > 0);
    return true;
}

static bool take_text(zcbor_state_t *state, nst_text *out) {
    struct zcbor_string text;
    if (!zcbor_tstr_decode(state, &text)) {
        return false;
    }
    *out = (nst_text){(const char *)text.value, text.len};
    return nst_text_is_utf8(*out);
}

static bool take_array(zcbor_state_t *state, const nst_smp_member *member, uint8_t *record) {
    uint32_t count = 0;
    uint32_t *array = (uint32_t *)(void *)(record + member->at);
    if (!zcbor_list_start_decode(state)) {
        return false;
    }
    while (!zcbor_array_at_end(state)) {
        if (count == NST_SMP_MOST_ELEMENTS || !zcbor_uint32_decode(state, &array[count])) {
            return false;
        }
        count++;
    }
    memcpy(record + member->at - sizeof count, &count, sizeof count);
    return zcbor_list_end_decode(state);
}

static bool take_value(zcbor_state_t *state, const nst_smp_member *member, uint8_t *record) {
    void *value = record + member->at;
    switch (member->type) {
        case NST_SMP_UINT:
            return zcbor_uint64_decode(state, value);
        case NST_SMP_UINT32:
            return zcbor_uint32_decode(state, value);
        case NST_SMP_BOOL:
            return zcbor_bool_decode(state, value);
        case NST_SMP_TEXT:
            return take_text(state, value);
        case NST_SMP_BYTES:
        case NST_SMP_HASH: {
            struct zcbor_string bytes;
            if (!zcbor_bstr_decode(state, &bytes)) {
                return false;
            }
            *(nst_smp_bytes *)value = (nst_smp_bytes){bytes.value, bytes.len};
            return member->type == NST_SMP_BYTES || bytes.len == NST_HASH_BYTES;
        }
        case NST_SMP_ARRAY:
            return take_array(state, member, record);
        default:
            return false;
    }
}

/* Number of the member with this key, or the count of members. */
static size_t find(const nst_smp_message *message, nst_text key) {
    size_t i = 0;
    while (i < message->count && (strlen(message->members[i].key) != key.bytes ||
                                  memcmp(message->members[i].key, key.data, key.bytes) != 0)) {
        i++;
    }
    return i;
}

/* One key and its value. */
static int take_pair(zcbor_state_t *state, const nst_smp_message *message, uint8_t *record,
                     uint32_t *seen, nst_error *err) {
    nst_text key = {NULL, 0};
    size_t i = message->count;
    if (major_type(state) == 3) {
        if (!take_text(state, &key)) {
            return fail_body(err, NST_TEXT("the request is not well-formed CBOR"));
        }
        i = find(message, key);
    } else if (!skip(state)) {
        return fail_body(err, NST_TEXT("the request is not well-formed CBOR"));
    }
    if (i == message->count) {
        return skip(state)
                   ? NST_OK
                   : fail_body(err,
                               NST_TEXT("the request is not well-formed CBOR, or nested too deep"));
    }
    const nst_smp_member *member = &message->members[i];
    if ((*seen & (1u << i)) != 0) {
        return fail_member(err, member->key, NST_TEXT("stands there twice"));
    }
    if (!take_value(state, member, record)) {
        return fail_member(err, member->key, NST_TEXT("is of a wrong type, or too large"));
    }
    *seen |= 1u << i;
    return NST_OK;
}

/* The members in `seen` were there: note those that need not have been, miss those that had to. */
static int finish(const nst_smp_message *message, uint32_t seen, void *out, nst_error *err) {
    for (size_t i = 0; i < message->count; i++) {
        if (!message->members[i].optional && (seen & (1u << i)) == 0) {
            return fail_member(err, message->members[i].key, NST_TEXT("is missing"));
        }
    }
    if (message->has_flags) {
        memcpy(out, &seen, sizeof seen);
    }
    return NST_OK;
}

int nst_smp_decode_body(const nst_smp_message *message, const uint8_t *body, size_t bytes,
                        void *out, nst_error *err) {
    zcbor_state_t state[NST_SMP_NESTING + 2];
    uint32_t seen = 0;
    if (bytes == 0) {
        return finish(message, seen, out, err);
    }
    zcbor_new_decode_state(state, NST_SMP_NESTING + 2, body, bytes, 1, NULL, 0);
    state->constant_state->enforce_canonical = false; /* clients write as they like */
    if (!zcbor_map_start_decode(state)) {
        return fail_body(err, NST_TEXT("the request is not a CBOR map"));
    }
    while (!zcbor_array_at_end(state)) {
        int code = take_pair(state, message, out, &seen, err);
        if (code != NST_OK) {
            return code;
        }
    }
    if (!zcbor_map_end_decode(state) || state->payload != body + bytes) {
        return fail_body(err, NST_TEXT("bytes follow the request's map"));
    }
    return finish(message, seen, out, err);
}

void nst_smp_encoder_init(nst_smp_encoder *encoder, uint8_t *buffer, size_t room) {
    zcbor_new_encode_state(encoder->states, NST_SMP_NESTING + 2, buffer, room, 1);
}

size_t nst_smp_encoder_used(const nst_smp_encoder *encoder, const uint8_t *buffer) {
    return (size_t)(encoder->states[0].payload - buffer);
}

bool nst_smp_put_text(nst_smp_encoder *encoder, nst_text text) {
    return zcbor_tstr_encode_ptr(encoder->states, text.bytes > 0 ? text.data : "", text.bytes);
}

bool nst_smp_put_uint(nst_smp_encoder *encoder, uint64_t value) {
    return zcbor_uint64_put(encoder->states, value);
}

/* Entries until there are no more, or no more fit. An entry may be a message with a list in it: the
 * tables nest three deep at most. */
static bool put_entries(nst_smp_encoder *encoder, const nst_smp_entries *entries, bool is_map) {
    zcbor_state_t *state = encoder->states;
    bool fits = is_map ? zcbor_map_start_encode(state, MOST_ENTRIES)
                       : zcbor_list_start_encode(state, MOST_ENTRIES);
    for (uint32_t i = 0; fits && i < MOST_ENTRIES; i++) {
        const zcbor_state_t before = *state;
        const size_t backups = state->constant_state->current_backup;
        if (!entries->next(entries->self, i, encoder)) {
            *state = before;
            state->constant_state->current_backup = backups;
            break;
        }
    }
    return fits && (is_map ? zcbor_map_end_encode(state, MOST_ENTRIES)
                           : zcbor_list_end_encode(state, MOST_ENTRIES));
}

static bool put_value(nst_smp_encoder *encoder, const nst_smp_member *member,
                      const uint8_t *record) {
    const void *value = record + member->at;
    switch (member->type) {
        case NST_SMP_UINT:
            return zcbor_uint64_put(encoder->states, *(const uint64_t *)value);
        case NST_SMP_UINT32:
            return zcbor_uint32_put(encoder->states, *(const uint32_t *)value);
        case NST_SMP_BOOL:
            return zcbor_bool_put(encoder->states, *(const bool *)value);
        case NST_SMP_FLOAT:
            return zcbor_float64_put(encoder->states, *(const double *)value);
        case NST_SMP_TEXT:
            return nst_smp_put_text(encoder, *(const nst_text *)value);
        case NST_SMP_BYTES:
        case NST_SMP_HASH: {
            const nst_smp_bytes *bytes = value;
            return zcbor_bstr_encode_ptr(
                encoder->states, bytes->bytes > 0 ? (const char *)bytes->data : "", bytes->bytes);
        }
        case NST_SMP_LIST:
        case NST_SMP_MAP:
            return put_entries(encoder, value, member->type == NST_SMP_MAP);
        default:
            return false;
    }
}

static bool put_members(nst_smp_encoder *encoder, const nst_smp_message *message,
                        const uint8_t *record) {
    uint32_t flags = 0;
    bool fits = true;
    if (message->has_flags) {
        memcpy(&flags, record, sizeof flags);
    }
    for (size_t i = 0; fits && i < message->count; i++) {
        const nst_smp_member *member = &message->members[i];
        if (member->optional && (flags & (1u << i)) == 0) {
            continue;
        }
        fits = nst_smp_put_text(encoder, (nst_text){member->key, strlen(member->key)}) &&
               put_value(encoder, member, record);
    }
    return fits;
}

bool nst_smp_put(nst_smp_encoder *encoder, const nst_smp_message *message, const void *record) {
    return zcbor_map_start_encode(encoder->states, message->count) &&
           put_members(encoder, message, record) &&
           zcbor_map_end_encode(encoder->states, message->count);
}
