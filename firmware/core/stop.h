/* Stop strings: whether the text of a generation ends with one of a few strings.
 *
 * Tokens are pieces of text, and a string may be cut into tokens in many ways; so texts are
 * compared, not tokens. A stop string ends a generation at the token that completes it.
 */
#ifndef NESTLING_CORE_STOP_H
#define NESTLING_CORE_STOP_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define NST_STOP_STRING_MAX_BYTES 64u

/* The text of every token, and the strings to look for; all memory is the caller's. Token n's bytes
 * are vocabulary_bytes[vocabulary_ends[n - 1]..vocabulary_ends[n]), the first's start at 0; strings
 * likewise. */
typedef struct nst_stop_text {
    const uint8_t *vocabulary_bytes;
    const uint32_t *vocabulary_ends; /* [vocabulary], ascending */
    uint32_t vocabulary;
    uint32_t strings;
    const uint8_t *string_bytes;
    const uint32_t *string_ends; /* [strings], ascending; 1 to NST_STOP_STRING_MAX_BYTES each */
} nst_stop_text;

/* What has been seen so far. All zeros at first. */
typedef struct nst_stop_tail {
    uint8_t bytes[NST_STOP_STRING_MAX_BYTES];
    uint32_t count;
} nst_stop_tail;

/* False when a string is empty or too long, or an end descends. */
bool nst_stop_valid(const nst_stop_text *text);

/* Take the text of the next token; true when a stop string was completed inside it. */
bool nst_stop_take(const nst_stop_text *text, nst_stop_tail *tail, uint32_t token);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
