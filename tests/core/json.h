/* Writing JSON to a stream, for the tests' programs. */
#ifndef NESTLING_TESTS_CORE_JSON_H
#define NESTLING_TESTS_CORE_JSON_H

#include <stdio.h>

#include "bundle.h"

/* A text as a JSON string; bytes that JSON cannot carry plainly are escaped. */
void json_text(FILE *to, nst_text text);
void json_string(FILE *to, const char *text);
void json_hex(FILE *to, const uint8_t *data, size_t bytes);

/* {"code": ..., "section": ..., "stage": ..., "expected": ..., "actual": ..., "message": ...} */
void json_error(FILE *to, int code, const nst_error *err);

/* Everything that the getters say about an opened bundle. 0, or the first code that was not NST_OK.
 */
int json_bundle(FILE *to, const nst_bundle *bundle);

#endif
