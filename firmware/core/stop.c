#include "stop.h"

#include <stddef.h>
#include <string.h>

static uint32_t start_of(const uint32_t *ends, uint32_t i) {
    return i == 0 ? 0 : ends[i - 1];
}

bool nst_stop_valid(const nst_stop_text *text) {
    uint32_t before = 0;
    if (text->vocabulary_bytes == NULL || text->vocabulary_ends == NULL ||
        text->string_bytes == NULL || text->string_ends == NULL) {
        return text->strings == 0;
    }
    for (uint32_t i = 0; i < text->vocabulary; i++) {
        if (text->vocabulary_ends[i] < before) {
            return false;
        }
        before = text->vocabulary_ends[i];
    }
    before = 0;
    for (uint32_t i = 0; i < text->strings; i++) {
        if (text->string_ends[i] <= before ||
            text->string_ends[i] - before > NST_STOP_STRING_MAX_BYTES) {
            return false;
        }
        before = text->string_ends[i];
    }
    return true;
}

static bool ends_with_string(const nst_stop_text *text, const nst_stop_tail *tail) {
    for (uint32_t i = 0; i < text->strings; i++) {
        const uint32_t start = start_of(text->string_ends, i);
        const uint32_t bytes = text->string_ends[i] - start;
        if (bytes <= tail->count &&
            memcmp(tail->bytes + tail->count - bytes, text->string_bytes + start, bytes) == 0) {
            return true;
        }
    }
    return false;
}

bool nst_stop_take(const nst_stop_text *text, nst_stop_tail *tail, uint32_t token) {
    bool found = false;
    if (text->strings == 0 || token >= text->vocabulary) {
        return false;
    }
    const uint32_t end = text->vocabulary_ends[token];
    for (uint32_t i = start_of(text->vocabulary_ends, token); i < end; i++) {
        if (tail->count == NST_STOP_STRING_MAX_BYTES) {
            memmove(tail->bytes, tail->bytes + 1, NST_STOP_STRING_MAX_BYTES - 1);
            tail->count--;
        }
        tail->bytes[tail->count++] = text->vocabulary_bytes[i];
        found = found || ends_with_string(text, tail);
    }
    return found;
}
