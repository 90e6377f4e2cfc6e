/* Unit tests of the core's small parts: arithmetic, text, errors, cursor, null pointers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bundle.h"
#include "cbor.h"
#include "checked.h"
#include "path.h"
#include "policy.h"
#include "text.h"

static int failures;

#define CHECK(condition)                                                              \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            failures++;                                                               \
        }                                                                             \
    } while (0)

#define TEXT(literal) ((nst_text){literal, sizeof(literal) - 1})

static void sums_do_not_wrap(void) {
    uint64_t out = 7;
    CHECK(nst_add_u64(UINT64_MAX - 1, 1, &out) && out == UINT64_MAX);
    out = 7;
    CHECK(!nst_add_u64(UINT64_MAX, 1, &out) && out == 7);
    CHECK(!nst_add_u64(1, UINT64_MAX, &out) && out == 7);
}

static void products_do_not_wrap(void) {
    uint64_t out = 7;
    CHECK(!nst_mul_u64(UINT64_C(1) << 32, UINT64_C(1) << 32, &out) && out == 7);
    CHECK(nst_mul_u64(UINT64_MAX, 1, &out) && out == UINT64_MAX);
    CHECK(nst_mul_u64(UINT64_MAX, 0, &out) && out == 0);
}

static void rounding_up_does_not_wrap(void) {
    uint64_t out = 7;
    CHECK(nst_align_u64(0, 64, &out) && out == 0);
    CHECK(nst_align_u64(1, 64, &out) && out == 64);
    CHECK(nst_align_u64(64, 64, &out) && out == 64);
    out = 7;
    CHECK(!nst_align_u64(UINT64_MAX, 64, &out) && out == 7);
}

static void utf8_is_well_formed(void) {
    CHECK(nst_text_is_utf8(TEXT("")));
    CHECK(nst_text_is_utf8(TEXT("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x90\xA3")));
    CHECK(nst_text_is_utf8(TEXT("\xF4\x8F\xBF\xBF")));  /* U+10FFFF */
    CHECK(!nst_text_is_utf8(TEXT("\xF4\x90\x80\x80"))); /* one more */
    CHECK(!nst_text_is_utf8(TEXT("\xC0\x80")));         /* overlong */
    CHECK(!nst_text_is_utf8(TEXT("\xE0\x9F\xBF")));     /* overlong */
    CHECK(!nst_text_is_utf8(TEXT("\xED\xA0\x80")));     /* surrogate */
    CHECK(!nst_text_is_utf8(TEXT("\x80")));
    CHECK(!nst_text_is_utf8(TEXT("\xE2\x82")));
    CHECK(!nst_text_is_utf8(TEXT("\xFF")));
}

static void names_have_a_length_and_no_controls(void) {
    char longest[128];
    memset(longest, 'n', sizeof longest);
    CHECK(nst_text_is_name((nst_text){longest, 127}));
    CHECK(!nst_text_is_name((nst_text){longest, 128}));
    CHECK(!nst_text_is_name(TEXT("")));
    CHECK(!nst_text_is_name(TEXT("a\x1F")));
    CHECK(!nst_text_is_name(TEXT("a\x7F")));
    CHECK(!nst_text_is_name(TEXT("a\xC2\x80")));
    CHECK(nst_text_is_name(TEXT("a\xC2\xA0")));
}

static void text_is_ordered(void) {
    CHECK(nst_text_compare(TEXT("a"), TEXT("a")) == 0);
    CHECK(nst_text_compare(TEXT("a"), TEXT("ab")) < 0);
    CHECK(nst_text_compare(TEXT("b"), TEXT("ab")) > 0);
    CHECK(nst_text_compare((nst_text){NULL, 0}, TEXT("a")) < 0);
    CHECK(nst_text_compare_canonical(TEXT("b"), TEXT("ab")) < 0);
    CHECK(nst_text_compare_canonical(TEXT("ba"), TEXT("ab")) > 0);
}

static void long_messages_are_cut_between_characters(void) {
    char buffer[6];
    nst_writer writer;
    nst_writer_start(&writer, buffer, sizeof buffer);
    nst_write(&writer, "abcd\xC3\xA9");
    CHECK(strcmp(buffer, "abcd") == 0);
    nst_write(&writer, "x"); /* nothing may follow a cut */
    CHECK(strcmp(buffer, "abcd") == 0);
    nst_writer_start(&writer, buffer, sizeof buffer);
    nst_write_number(&writer, UINT64_MAX);
    CHECK(strcmp(buffer, "18446") == 0);
    nst_writer_start(&writer, buffer, 1);
    nst_write(&writer, "abc");
    CHECK(buffer[0] == '\0');
}

static void errors_carry_everything(void) {
    nst_error err;
    CHECK(nst_fail(&err, NST_E_HASH, "core", NULL, 1, 2, "words") == NST_E_HASH);
    CHECK(err.code == NST_E_HASH && err.expected == 1 && err.actual == 2);
    CHECK(strcmp(err.section, "core") == 0 && err.stage[0] == '\0');
    CHECK(strcmp(err.message, "words") == 0);
    CHECK(nst_fail(NULL, NST_E_IO, NULL, NULL, 0, 0, NULL) == NST_E_IO);
    nst_error_entry(&err, NST_STAGES, UINT32_MAX);
    CHECK(strcmp(err.section, "stages[4294967295]") == 0);
}

static void every_code_has_a_name(void) {
    for (int code = NST_E_END; code <= 0; code++) {
        CHECK(strcmp(nst_code_name(code), "NST_E_UNKNOWN") != 0);
    }
    CHECK(strcmp(nst_code_name(1), "NST_E_UNKNOWN") == 0);
    CHECK(strcmp(nst_code_name(NST_E_END - 1), "NST_E_UNKNOWN") == 0);
}

static bool takes_float(const char *bytes, size_t size, double expected) {
    nst_cursor cursor = {(const uint8_t *)bytes, (const uint8_t *)bytes + size};
    double value = -1;
    return nst_take_float(&cursor, &value) && value == expected && cursor.at == cursor.end;
}
#define FLOAT(bytes, expected) takes_float(bytes, sizeof(bytes) - 1, expected)

static void floats_come_in_their_shortest_form_only(void) {
    CHECK(FLOAT("\xF9\x38\x00", 0.5));
    CHECK(!FLOAT("\xFA\x3F\x00\x00\x00", 0.5));
    CHECK(!FLOAT("\xFB\x3F\xE0\x00\x00\x00\x00\x00\x00", 0.5));
    CHECK(FLOAT("\xF9\x7B\xFF", 65504.0));              /* the largest f16 */
    CHECK(FLOAT("\xFA\x47\x80\x00\x00", 65536.0));      /* one step more */
    CHECK(FLOAT("\xF9\x00\x01", 0x1p-24));              /* the smallest f16 */
    CHECK(!FLOAT("\xFA\x33\x80\x00\x00", 0x1p-24));     /* the same as f32 */
    CHECK(FLOAT("\xFA\x33\x00\x00\x00", 0x1p-25));      /* half of it */
    CHECK(FLOAT("\xFA\x33\xC0\x00\x00", 0x1.8p-24));    /* between two f16 */
    CHECK(!FLOAT("\xFA\x38\x7F\xC0\x00", 0x1.FF8p-15)); /* a subnormal f16 as f32 */
    CHECK(FLOAT("\xFA\x38\x7F\xE0\x00", 0x1.FFCp-15));  /* one bit more than it holds */
    CHECK(!FLOAT("\xFA\x00\x00\x00\x00", 0.0));
    CHECK(FLOAT("\xFB\x3F\xB9\x99\x99\x99\x99\x99\x9A", 0.1));
    CHECK(!FLOAT("\xF9\x7C\x00", 0)); /* infinity */
    CHECK(!FLOAT("\xF9\x7E\x00", 0)); /* not a number */
    CHECK(!FLOAT("\xFA\x3F\x00", 0)); /* cut short */
}

static void a_list_longer_than_its_bytes_is_refused(void) {
    const uint8_t bytes[] = {0x82, 0x01};
    nst_cursor cursor = {bytes, bytes + sizeof bytes};
    uint32_t count = 9;
    CHECK(!nst_take_list(&cursor, &count) && count == 9);
}

static void empty_cursors_give_nothing(void) {
    const uint8_t byte = 0;
    nst_cursor cursor = {&byte, &byte};
    nst_text text;
    uint64_t number;
    CHECK(!nst_take_u64(&cursor, &number));
    CHECK(!nst_take_text(&cursor, &text));
    CHECK(!nst_take_key(&cursor, "a"));
    CHECK(nst_peek_major(&cursor) == 8 && nst_peek_byte(&cursor) == 0xFF);
}

static void null_pointers_are_an_error_of_the_caller(void) {
    nst_prefix prefix;
    nst_bundle bundle;
    nst_path_report report;
    nst_section_info section;
    uint32_t index[4];
    CHECK(nst_bundle_prefix(NULL, 1, &prefix, NULL) == NST_E_ARGUMENT);
    CHECK(nst_bundle_prefix("x", 1, NULL, NULL) == NST_E_ARGUMENT);
    CHECK(nst_bundle_open(&bundle, "x", 1, index, sizeof index, NULL, NULL) == NST_E_ARGUMENT);
    CHECK(nst_bundle_check_section(NULL, 0, NULL, NULL) == NST_E_ARGUMENT);
    CHECK(nst_bundle_section(NULL, 0, &section) == NST_E_NOT_FOUND);
    CHECK(nst_bundle_find(NULL, NST_STAGES, "a", 1) == NST_NONE);
    CHECK(nst_path_check(NULL, NULL, 0, &report, NULL) == NST_E_ARGUMENT);
    nst_policy policy;
    nst_policy_params params = NST_POLICY_DEFAULTS;
    nst_policy_cost costs[1];
    CHECK(!nst_policy_init(NULL, &params, costs, 1));
    CHECK(!nst_policy_init(&policy, NULL, costs, 1));
    CHECK(!nst_policy_init(&policy, &params, NULL, 1));
    CHECK(nst_policy_init(&policy, &params, costs, 1));
}

int main(void) {
    sums_do_not_wrap();
    products_do_not_wrap();
    rounding_up_does_not_wrap();
    utf8_is_well_formed();
    names_have_a_length_and_no_controls();
    text_is_ordered();
    long_messages_are_cut_between_characters();
    errors_carry_everything();
    every_code_has_a_name();
    floats_come_in_their_shortest_form_only();
    a_list_longer_than_its_bytes_is_refused();
    empty_cursors_give_nothing();
    null_pointers_are_an_error_of_the_caller();
    if (failures > 0) {
        fprintf(stderr, "%d checks failed\n", failures);
    }
    return failures > 0;
}
