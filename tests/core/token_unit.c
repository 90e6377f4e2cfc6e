/* Unit tests of what turns logits into tokens: sampler, stop strings, policies of paths. Arrays have
 * exactly the size that the headers ask for, on the heap, where the sanitizer watches their ends. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "sampler.h"
#include "stop.h"
#include "token_policy.h"

static uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static float *make_logits(uint32_t count, uint32_t seed) {
    float *logits = malloc(count * sizeof *logits);
    for (uint32_t i = 0; i < count; i++) {
        logits[i] = (float)next_random(&seed) / (float)(1 << 24) * 12.0f - 6.0f;
    }
    return logits;
}

/* ---- Sampler ---- */

static void signals_are_those_of_the_softmax(void) {
    for (uint32_t count = 1; count <= 70; count += 3) {
        float *logits = make_logits(count, count);
        nst_logit_signals signals;
        double total = 0, entropy = 0, first = 0, second = 0;
        uint32_t best = 0;
        CHECK(nst_measure_logits(logits, count, &signals));
        for (uint32_t i = 0; i < count; i++) {
            total += exp((double)logits[i]);
            best = logits[i] > logits[best] ? i : best;
        }
        for (uint32_t i = 0; i < count; i++) {
            const double p = exp((double)logits[i]) / total;
            entropy -= p * log2(p);
            second = p > first ? first : p > second ? p : second;
            first = p > first ? p : first;
        }
        CHECK(signals.best == best);
        CHECK(fabs((double)signals.entropy_bits - entropy) < 1e-5);
        CHECK(fabs((double)signals.confidence - first) < 1e-6);
        CHECK(fabs((double)signals.margin - (first - second)) < 1e-6);
        free(logits);
    }
}

static void equals_go_to_the_first(void) {
    const float logits[5] = {1.0f, 2.0f, 2.0f, 0.0f, 2.0f};
    nst_logit_signals signals;
    CHECK(nst_measure_logits(logits, 5, &signals));
    CHECK(signals.best == 1 && signals.margin < 1e-6f);
}

static void far_apart_logits_do_not_overflow(void) {
    const float logits[3] = {-1e38f, 1e38f, 0.0f};
    nst_logit_signals signals;
    CHECK(nst_measure_logits(logits, 3, &signals));
    CHECK(signals.best == 1 && signals.confidence == 1.0f && signals.entropy_bits < 1e-6f);
}

static void logits_that_are_none_are_refused(void) {
    const float bad[] = {NAN, INFINITY, -INFINITY, FLT_MAX};
    nst_logit_signals signals;
    CHECK(!nst_measure_logits(bad, 0, &signals));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const float logits[3] = {0.0f, bad[i], 1.0f};
        CHECK(!nst_measure_logits(logits, 3, &signals));
    }
}

static void sampling_out_of_range_is_refused(void) {
    nst_candidate candidates[4];
    nst_sampler sampler;
    nst_sampling sampling = {0};
    CHECK(nst_sampler_init(&sampler, &sampling, candidates, 4));
    CHECK(!nst_sampler_init(NULL, &sampling, candidates, 4));
    CHECK(!nst_sampler_init(&sampler, NULL, candidates, 4));
    CHECK(!nst_sampler_init(&sampler, &sampling, NULL, 4));
    CHECK(!nst_sampler_init(&sampler, &sampling, candidates, 0));
    sampling.temperature = -0.1f;
    CHECK(!nst_sampler_init(&sampler, &sampling, candidates, 4));
    sampling.temperature = NAN;
    CHECK(!nst_sampler_init(&sampler, &sampling, candidates, 4));
    sampling.temperature = 1.0f;
    sampling.top_p = 1.1f;
    CHECK(!nst_sampler_init(&sampler, &sampling, candidates, 4));
    sampling.top_p = NAN;
    CHECK(!nst_sampler_init(&sampler, &sampling, candidates, 4));
}

/* Share of each token in many draws. */
static void draw_many(const float *logits, uint32_t count, nst_sampling sampling, double *shares) {
    enum { DRAWS = 40000 };
    nst_candidate *candidates = malloc(count * sizeof *candidates);
    nst_sampler sampler;
    nst_logit_signals signals;
    memset(shares, 0, count * sizeof *shares);
    CHECK(nst_measure_logits(logits, count, &signals));
    CHECK(nst_sampler_init(&sampler, &sampling, candidates, count));
    for (int i = 0; i < DRAWS; i++) {
        const uint32_t token = nst_sampler_draw(&sampler, logits, signals.best);
        CHECK(token < count);
        shares[token] += 1.0 / DRAWS;
    }
    free(candidates);
}

static void draws_follow_the_distribution(void) {
    const float logits[5] = {1.0f, 0.0f, 2.0f, -1.0f, 1.0f};
    double shares[5];
    double total = 0;
    draw_many(logits, 5, (nst_sampling){.temperature = 0.8f, .seed = 7}, shares);
    for (int i = 0; i < 5; i++) {
        total += exp((double)logits[i] / 0.8);
    }
    for (int i = 0; i < 5; i++) {
        CHECK(fabs(shares[i] - exp((double)logits[i] / 0.8) / total) < 0.01);
    }
    draw_many(logits, 5, (nst_sampling){.seed = 7}, shares);
    CHECK(shares[2] > 0.999); /* temperature 0 */
}

static void truncation_keeps_the_most_probable(void) {
    /* exp: 1, 2, 4, 8, 1 of 16 */
    const float logits[5] = {0.0f, 0.69314718f, 1.38629436f, 2.07944154f, 0.0f};
    double shares[5];
    nst_sampling sampling = {.temperature = 1.0f, .top_k = 2, .seed = 3};
    draw_many(logits, 5, sampling, shares);
    CHECK(shares[0] == 0 && shares[1] == 0 && shares[4] == 0);
    CHECK(fabs(shares[3] - 8.0 / 12.0) < 0.01);
    sampling = (nst_sampling){.temperature = 1.0f, .top_p = 0.8f, .seed = 3};
    draw_many(logits, 5, sampling, shares); /* 8, 4 and 2 reach 14/16 */
    CHECK(shares[0] == 0 && shares[4] == 0 && fabs(shares[1] - 2.0 / 14.0) < 0.01);
    sampling = (nst_sampling){.temperature = 1.0f, .top_k = 3, .top_p = 0.8f, .seed = 3};
    draw_many(logits, 5, sampling, shares); /* 8 and 4 are 12 of the 14 that top_k leaves */
    CHECK(shares[1] == 0 && fabs(shares[3] - 8.0 / 12.0) < 0.01);
    sampling = (nst_sampling){.temperature = 1.0f, .top_k = 4, .seed = 3};
    draw_many(logits, 5, sampling, shares); /* of equals the first */
    CHECK(shares[4] == 0 && shares[0] > 0.04);
    sampling = (nst_sampling){.temperature = 1.0f, .top_k = 1, .seed = 3};
    draw_many(logits, 5, sampling, shares);
    CHECK(shares[3] > 0.999);
    draw_many(logits, 1, (nst_sampling){.temperature = 1.0f, .top_p = 0.1f}, shares);
    CHECK(shares[0] > 0.999);
}

/* ---- Stop strings ---- */

typedef struct texts {
    uint8_t *bytes;
    uint32_t *ends;
    uint32_t count;
} texts;

static texts make_texts(const char *const *words, uint32_t count) {
    texts made = {NULL, malloc(count * sizeof(uint32_t) + 1), count};
    uint32_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        total += (uint32_t)strlen(words[i]);
        made.ends[i] = total;
    }
    made.bytes = malloc(total + (total == 0));
    for (uint32_t i = 0, at = 0; i < count; i++) {
        memcpy(made.bytes + at, words[i], strlen(words[i]));
        at = made.ends[i];
    }
    return made;
}

static void free_texts(texts made) {
    free(made.bytes);
    free(made.ends);
}

/* At which of the tokens a stop string is complete; the number of tokens: at none. */
static uint32_t stops_at(const char *const *words, uint32_t vocabulary, const char *const *strings,
                         uint32_t string_count, const uint32_t *tokens, uint32_t count) {
    const texts vocab = make_texts(words, vocabulary);
    const texts stops = make_texts(strings, string_count);
    const nst_stop_text text = {vocab.bytes,  vocab.ends,  vocabulary,
                                string_count, stops.bytes, stops.ends};
    nst_stop_tail tail = {{0}, 0};
    uint32_t at = count;
    CHECK(nst_stop_valid(&text));
    for (uint32_t i = 0; i < count && at == count; i++) {
        at = nst_stop_take(&text, &tail, tokens[i]) ? i : count;
    }
    free_texts(vocab);
    free_texts(stops);
    return at;
}

static void stop_strings_end_inside_and_across_tokens(void) {
    static const char *const words[] = {"a", "ab", "", "c<e", "nd>x", "aab"};
    static const char *const end[] = {"<end>", "zz"};
    static const char *const overlapping[] = {"aaab"};
    CHECK(stops_at(words, 6, end, 2, (const uint32_t[]){0, 3, 2, 4, 0}, 5) == 3);
    CHECK(stops_at(words, 6, end, 2, (const uint32_t[]){3, 0, 4}, 3) == 3);
    CHECK(stops_at(words, 6, overlapping, 1, (const uint32_t[]){0, 0, 0, 1}, 4) == 3);
    CHECK(stops_at(words, 6, overlapping, 1, (const uint32_t[]){1, 0, 5}, 3) == 2);
    CHECK(stops_at(words, 6, end, 0, (const uint32_t[]){3, 4}, 2) == 2);
    CHECK(stops_at(words, 6, end, 2, (const uint32_t[]){6, UINT32_MAX, 3, 4}, 4) == 3);
}

static void the_longest_stop_string_is_found_in_a_long_text(void) {
    char longest[NST_STOP_STRING_MAX_BYTES + 1];
    const char *const words[] = {"x", "yy", longest};
    const char *const strings[] = {longest};
    uint32_t tokens[70];
    memset(longest, 'y', sizeof longest);
    longest[0] = 'x';
    longest[NST_STOP_STRING_MAX_BYTES] = 0;
    for (uint32_t i = 0; i < 70; i++) {
        tokens[i] = i < 37 ? 0 : 1;
    }
    /* x, then 63 y: inside the 32nd "yy" */
    CHECK(stops_at(words, 3, strings, 1, tokens, 70) == 36 + 32);
    CHECK(stops_at(words, 3, strings, 1, (const uint32_t[]){1, 2}, 2) == 1);
}

static void stop_texts_that_make_no_sense_are_refused(void) {
    const uint8_t bytes[80] = {0};
    const uint32_t vocabulary[2] = {1, 2};
    const uint32_t strings[2] = {3, 4};
    nst_stop_text text = {bytes, vocabulary, 2, 2, bytes, strings};
    CHECK(nst_stop_valid(&text));
    text.string_ends = (const uint32_t[]){3, 3}; /* an empty one */
    CHECK(!nst_stop_valid(&text));
    text.string_ends = (const uint32_t[]){3, 68}; /* 65 bytes */
    CHECK(!nst_stop_valid(&text));
    text.string_ends = (const uint32_t[]){3, 67};
    CHECK(nst_stop_valid(&text));
    text.vocabulary_ends = (const uint32_t[]){2, 1};
    CHECK(!nst_stop_valid(&text));
    text.vocabulary_ends = NULL;
    CHECK(!nst_stop_valid(&text));
    text.strings = 0;
    CHECK(nst_stop_valid(&text));
}

/* ---- Policies ---- */

static nst_token_signals seen(uint32_t path, float entropy_bits, float confidence, float margin) {
    return (nst_token_signals){.generated = 1,
                               .path = path,
                               .logits = {entropy_bits, confidence, margin, 0},
                               .token_ns = 1000000};
}

static uint32_t choose(const nst_token_policy *policy, nst_token_signals last) {
    nst_token_choice choice = {0};
    policy->choose(policy->self, &last, &choice);
    return choice.path;
}

static void entropy_is_a_mean_over_a_window(void) {
    nst_entropy_policy state;
    CHECK(nst_entropy_policy_init(&state, 1, 3, 2.0f, 3, 0, false));
    const nst_token_policy policy = nst_entropy_policy_use(&state);
    CHECK(choose(&policy, seen(NST_NO_PATH, 0, 0, 0)) == 3); /* the prompt says nothing */
    CHECK(choose(&policy, seen(3, 3.0f, 0, 0)) == 3);
    CHECK(choose(&policy, seen(3, 1.0f, 0, 0)) == 1); /* mean 2: not above */
    CHECK(choose(&policy, seen(1, 2.5f, 0, 0)) == 3); /* 6.5 / 3 */
    CHECK(choose(&policy, seen(3, 1.0f, 0, 0)) == 1); /* 4.5 / 3: the first has left the window */
}

static void a_path_is_kept_for_its_minimum(void) {
    nst_entropy_policy state;
    CHECK(nst_entropy_policy_init(&state, 0, 1, 2.0f, 1, 3, false));
    const nst_token_policy policy = nst_entropy_policy_use(&state);
    uint32_t changes = 0;
    uint32_t before = choose(&policy, seen(NST_NO_PATH, 0, 0, 0));
    for (uint32_t i = 0; i < 30; i++) {
        const uint32_t now = choose(&policy, seen(before, i % 2 != 0 ? 4.0f : 0.0f, 0, 0));
        changes += now != before;
        before = now;
    }
    CHECK(changes >= 9 && changes <= 11); /* every token without the minimum */
}

static void ahead_asks_the_small_path_first(void) {
    nst_entropy_policy state;
    CHECK(nst_entropy_policy_init(&state, 0, 2, 2.0f, 1, 0, true));
    const nst_token_policy policy = nst_entropy_policy_use(&state);
    nst_token_signals now = seen(0, 3.0f, 0, 0);
    CHECK(choose(&policy, seen(2, 9.0f, 0, 0)) == 0);
    CHECK(policy.accept(policy.self, &now) == 2);
    now.path = 2;
    CHECK(policy.accept(policy.self, &now) == NST_NO_PATH);
    now = seen(0, 1.0f, 0, 0);
    CHECK(policy.accept(policy.self, &now) == NST_NO_PATH);
}

static void entropy_parameters_out_of_range_are_refused(void) {
    nst_entropy_policy state;
    CHECK(!nst_entropy_policy_init(NULL, 0, 1, 1.0f, 1, 1, false));
    CHECK(!nst_entropy_policy_init(&state, 0, 1, 1.0f, 0, 1, false));
    CHECK(!nst_entropy_policy_init(&state, 0, 1, 1.0f, NST_ENTROPY_WINDOW_MAX + 1, 1, false));
    CHECK(nst_entropy_policy_init(&state, 0, 1, 1.0f, NST_ENTROPY_WINDOW_MAX, 1, false));
    CHECK(!nst_entropy_policy_init(&state, 0, 1, NAN, 1, 1, false));
    CHECK(!nst_entropy_policy_init(&state, 0, 1, -1.0f, 1, 1, false));
}

static void a_ladder_is_climbed_until_a_path_is_sure(void) {
    const uint32_t paths[3] = {0, 2, 3};
    const float thresholds[2] = {0.9f, 0.5f};
    nst_exit_policy state;
    CHECK(nst_exit_policy_init(&state, paths, thresholds, 3, NST_EXIT_CONFIDENCE));
    nst_token_policy policy = nst_exit_policy_use(&state);
    nst_token_signals now = seen(0, 0, 0.8f, 0.6f);
    CHECK(choose(&policy, seen(NST_NO_PATH, 0, 0, 0)) == 0);
    CHECK(policy.accept(policy.self, &now) == 2);
    now.path = 2;
    CHECK(policy.accept(policy.self, &now) == NST_NO_PATH);
    now.path = 3;
    now.logits.confidence = 0;
    CHECK(policy.accept(policy.self, &now) == NST_NO_PATH); /* the last one is always sure */
    CHECK(nst_exit_policy_init(&state, paths, thresholds, 3, NST_EXIT_MARGIN));
    now = seen(2, 0, 0.99f, 0.4f);
    CHECK(policy.accept(policy.self, &now) == 3);
    CHECK(nst_exit_policy_init(&state, paths, thresholds, 3, NST_EXIT_ENTROPY));
    now = seen(0, 0.9f, 0, 0);
    CHECK(policy.accept(policy.self, &now) == NST_NO_PATH);
    now = seen(0, 0.91f, 0, 0);
    CHECK(policy.accept(policy.self, &now) == 2);
}

static void ladders_that_are_none_are_refused(void) {
    const uint32_t paths[NST_LADDER_MAX + 1] = {0};
    float thresholds[NST_LADDER_MAX] = {0};
    nst_exit_policy state;
    CHECK(nst_exit_policy_init(&state, paths, NULL, 1, NST_EXIT_MARGIN));
    CHECK(nst_exit_policy_init(&state, paths, thresholds, NST_LADDER_MAX, NST_EXIT_MARGIN));
    CHECK(!nst_exit_policy_init(&state, paths, thresholds, NST_LADDER_MAX + 1, NST_EXIT_MARGIN));
    CHECK(!nst_exit_policy_init(&state, paths, thresholds, 0, NST_EXIT_MARGIN));
    CHECK(!nst_exit_policy_init(&state, NULL, thresholds, 2, NST_EXIT_MARGIN));
    CHECK(!nst_exit_policy_init(&state, paths, NULL, 2, NST_EXIT_MARGIN));
    CHECK(!nst_exit_policy_init(NULL, paths, thresholds, 2, NST_EXIT_MARGIN));
    CHECK(!nst_exit_policy_init(&state, paths, thresholds, 2, (nst_exit_signal)3));
    thresholds[0] = NAN;
    CHECK(!nst_exit_policy_init(&state, paths, thresholds, 2, NST_EXIT_MARGIN));
}

static void fixed_and_speculative_say_what_they_were_told(void) {
    nst_fixed_policy fixed = {4};
    nst_token_policy policy = nst_fixed_policy_use(&fixed);
    CHECK(choose(&policy, seen(0, 9.0f, 0, 0)) == 4 && policy.accept == NULL);
    nst_speculative_policy speculative = {1, 3, 5, 0.25f};
    const nst_token_signals last = seen(0, 0, 0, 0);
    nst_token_choice choice = {0};
    policy = nst_speculative_policy_use(&speculative);
    policy.choose(policy.self, &last, &choice);
    CHECK(choice.path == 1 && choice.verify == 3 && choice.draft_tokens == 5);
    CHECK(choice.draft_confidence == 0.25f);
}

/* Paths that take 1, 2 and 4 ms: the choice settles on the largest one within the rate. */
static uint32_t settle(double tokens_per_second) {
    nst_policy_cost costs[3];
    nst_rate_policy state;
    CHECK(nst_rate_policy_init(&state, costs, 3, tokens_per_second, 16));
    const nst_token_policy policy = nst_rate_policy_use(&state);
    nst_token_signals last = {.token = 0, .path = NST_NO_PATH};
    uint32_t paths[3] = {0};
    for (uint32_t i = 0; i < 400; i++) {
        const uint32_t path = choose(&policy, last);
        CHECK(path < 3);
        if (path >= 3) {
            return path;
        }
        paths[path] += i >= 200;
        last.path = path;
        last.token_ns = UINT64_C(1000000) << path;
        last.elapsed_ns += last.token_ns;
        last.generated++;
    }
    CHECK((double)last.elapsed_ns * 1e-9 <= 1.1 * 400.0 / tokens_per_second);
    return paths[2] > 150 ? 2 : paths[0] > 150 ? 0 : 1;
}

static void a_rate_is_kept_by_the_largest_path_that_can(void) {
    nst_policy_cost costs[1];
    nst_rate_policy state;
    CHECK(settle(100.0) == 2);
    CHECK(settle(950.0) == 0);
    CHECK(!nst_rate_policy_init(&state, costs, 1, 0.0, 16));
    CHECK(!nst_rate_policy_init(&state, costs, 1, NAN, 16));
    CHECK(!nst_rate_policy_init(&state, costs, 1, 10.0, 0));
    CHECK(!nst_rate_policy_init(NULL, costs, 1, 10.0, 1));
    CHECK(!nst_rate_policy_init(&state, NULL, 1, 10.0, 1));
}

int main(void) {
    signals_are_those_of_the_softmax();
    equals_go_to_the_first();
    far_apart_logits_do_not_overflow();
    logits_that_are_none_are_refused();
    sampling_out_of_range_is_refused();
    draws_follow_the_distribution();
    truncation_keeps_the_most_probable();
    stop_strings_end_inside_and_across_tokens();
    the_longest_stop_string_is_found_in_a_long_text();
    stop_texts_that_make_no_sense_are_refused();
    entropy_is_a_mean_over_a_window();
    a_path_is_kept_for_its_minimum();
    ahead_asks_the_small_path_first();
    entropy_parameters_out_of_range_are_refused();
    a_ladder_is_climbed_until_a_path_is_sure();
    ladders_that_are_none_are_refused();
    fixed_and_speculative_say_what_they_were_told();
    a_rate_is_kept_by_the_largest_path_that_can();
    return finish();
}
