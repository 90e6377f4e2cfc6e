/* Bodies of SMP messages: requests into structs, structs into answers, by the tables that
 * smp_messages.py makes from smp.cddl. The CBOR itself is zcbor's runtime. Internal to the server.
 */
#ifndef NESTLING_CORE_SMP_CODEC_H
#define NESTLING_CORE_SMP_CODEC_H

#include <zcbor_common.h>

#include "bundle.h"

/* Lists and maps inside of each other: in an answer, and in a member of a request that is passed
 * over. */
#define NST_SMP_NESTING 8

typedef struct nst_smp_bytes {
    const uint8_t *data;
    size_t bytes;
} nst_smp_bytes;

typedef struct nst_smp_encoder {
    zcbor_state_t
        states[NST_SMP_NESTING + 2]; /* the value, lists and maps around it, what they share */
} nst_smp_encoder;

/* Entries of a list or map of an answer, given out one by one: `next` writes entry `i`, or returns
 * false when there is none. An entry that does not fit is taken back, and the list ends before it.
 */
typedef struct nst_smp_entries {
    bool (*next)(void *self, uint32_t i, nst_smp_encoder *encoder);
    void *self;
} nst_smp_entries;

typedef enum nst_smp_type {
    NST_SMP_UINT = 0,
    NST_SMP_UINT32 = 1,
    NST_SMP_BOOL = 2,
    NST_SMP_FLOAT = 3, /* answers only */
    NST_SMP_TEXT = 4,
    NST_SMP_BYTES = 5,
    NST_SMP_HASH = 6,  /* NST_HASH_BYTES bytes */
    NST_SMP_ARRAY = 7, /* of uint32_t; requests only */
    NST_SMP_LIST = 8,  /* nst_smp_entries; answers only */
    NST_SMP_MAP = 9,   /* the same; an entry is a key and a value */
} nst_smp_type;

#define NST_SMP_MOST_ELEMENTS 256 /* of an array */

typedef struct nst_smp_member {
    const char *key;
    uint16_t at;  /* offset of the value in the struct, bytes; NST_SMP_ARRAY: the count is in front
                     of it */
    uint8_t type; /* nst_smp_type */
    bool optional;
} nst_smp_member;

typedef struct nst_smp_message {
    const nst_smp_member *members;
    uint16_t count; /* at most 32 */
    bool has_flags; /* some are optional: the struct begins with a word whose bit i is set where
                       member i is there */
} nst_smp_message;

/* Decode a body: a map with definite or indefinite length, its members in any order, unknown ones
 * passed over. No bytes at all count as an empty map. `out` is the struct of the message; texts and
 * bytes point into the body. NST_E_ARGUMENT: malformed, a member that is missing, doubled or of a
 * wrong type (err says which). */
int nst_smp_decode_body(const nst_smp_message *message, const uint8_t *body, size_t bytes,
                        void *out, nst_error *err);

void nst_smp_encoder_init(nst_smp_encoder *encoder, uint8_t *buffer, size_t room);
/* Bytes written so far from the start of `buffer`. */
size_t nst_smp_encoder_used(const nst_smp_encoder *encoder, const uint8_t *buffer);

/* Encode one message, or one entry that is a map. False: it does not fit. */
bool nst_smp_put(nst_smp_encoder *encoder, const nst_smp_message *message, const void *record);
/* Entries that are not messages. */
bool nst_smp_put_text(nst_smp_encoder *encoder, nst_text text);
bool nst_smp_put_uint(nst_smp_encoder *encoder, uint64_t value);

#endif
