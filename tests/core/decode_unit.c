/* Unit tests of the decode loop, on an engine that is a few lines: its logits follow from all tokens
 * and from the path, and it knows what it holds, so that a loop that asks for what is not there, or
 * forgets to take back what was wrong, is found out. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "decode.h"

enum { VOCABULARY = 11, PATHS = 3, LIMIT = 40, VERIFY = 4 };

/* Of one conversation. */
typedef struct engine {
    uint32_t held[LIMIT]; /* tokens whose rows it has */
    uint32_t count;
    uint64_t clock;
    uint32_t runs;
    uint32_t fail_at; /* the run that fails; 0: none */
    int fail_code;
    bool not_finite;
    float *logits; /* [VERIFY][VOCABULARY] */
} engine;

/* What path `path` says behind the first `count` tokens: small paths are wrong now and then. */
static uint32_t answer(const uint32_t *tokens, uint32_t count, uint32_t path) {
    uint32_t hash = 17;
    for (uint32_t i = 0; i < count; i++) {
        hash = hash * 31 + tokens[i] + 1;
    }
    return (hash % 7 < PATHS - 1 - path ? hash / 7 + path + 1 : hash / 11) % VOCABULARY;
}

static int run(void *context, uint32_t path, const uint32_t *tokens, uint32_t position,
               uint32_t count, bool all, const float **logits, nst_error *err) {
    engine *self = context;
    self->runs++;
    self->clock += 1000u * (path + 1);
    CHECK(path < PATHS && count >= 1 && position <= self->count);
    CHECK(position + count <= LIMIT && (!all || count <= VERIFY));
    CHECK(memcmp(self->held, tokens, position * sizeof *tokens) == 0);
    if (self->runs == self->fail_at) {
        self->count = position; /* what it had behind is spoiled */
        return nst_fail(err, self->fail_code, NULL, NULL, 0, 0, "asked for");
    }
    memcpy(self->held + position, tokens + position, count * sizeof *tokens);
    self->count = position + count;
    for (uint32_t i = 0; i < (all ? count : 1); i++) {
        const uint32_t end = all ? position + i + 1 : position + count;
        for (uint32_t token = 0; token < VOCABULARY; token++) {
            self->logits[i * VOCABULARY + token] = 0.1f * (float)(token % 3);
        }
        self->logits[i * VOCABULARY + answer(tokens, end, path)] = 2.0f + (float)path;
        if (self->not_finite) {
            self->logits[i * VOCABULARY] = NAN;
        }
    }
    *logits = self->logits;
    return NST_OK;
}

static void rewind_to(void *context, uint32_t count) {
    engine *self = context;
    self->count = self->count < count ? self->count : count;
}

static uint64_t now_ns(void *context) {
    return ((engine *)context)->clock++;
}

/* A conversation with a prompt. All memory has exactly the size that decode.h asks for. */
typedef struct talk {
    engine engine;
    nst_decode decode;
    nst_generate_stats stats;
    nst_error error;
} talk;

static void begin(talk *t, const uint32_t *prompt, uint32_t count) {
    memset(t, 0, sizeof *t);
    t->engine.logits = malloc(VERIFY * VOCABULARY * sizeof(float));
    const nst_decode_engine table = {.context = &t->engine,
                                     .vocabulary = VOCABULARY,
                                     .paths = PATHS,
                                     .limit = LIMIT,
                                     .verify_tokens = VERIFY,
                                     .run = run,
                                     .rewind = rewind_to,
                                     .now_ns = now_ns};
    nst_decode_init(&t->decode, &table, malloc(LIMIT * sizeof(uint32_t)),
                    malloc(VOCABULARY * sizeof(nst_candidate)));
    CHECK(nst_decode_append(&t->decode, prompt, count, NULL) == NST_OK);
}

static void end(talk *t) {
    free(t->engine.logits);
    free(t->decode.tokens);
    free(t->decode.candidates);
}

static const uint32_t prompt_tokens[5] = {3, 1, 4, 1, 5};

static int generate(talk *t, uint32_t max_tokens, const nst_token_policy *policy) {
    const nst_generate_options options = {.max_tokens = max_tokens, .prompt_path = NST_NO_PATH};
    const int code =
        nst_decode_generate(&t->decode, &options, policy, NULL, NULL, &t->stats, &t->error);
    /* What decode.h promises after every call. */
    CHECK(t->decode.done <= t->decode.count && t->engine.count >= t->decode.done);
    CHECK(memcmp(t->engine.held, t->decode.tokens, t->decode.done * sizeof(uint32_t)) == 0);
    return code;
}

/* Whether everything behind the prompt is what `path` says, token by token. */
static bool is_greedy(const talk *t, uint32_t from, uint32_t path) {
    for (uint32_t i = from; i < t->decode.count; i++) {
        if (t->decode.tokens[i] != answer(t->decode.tokens, i, path)) {
            return false;
        }
    }
    return true;
}

static nst_token_policy fixed(nst_fixed_policy *state, uint32_t path) {
    state->path = path;
    return nst_fixed_policy_use(state);
}

static void greedy_tokens_are_those_of_the_path(void) {
    for (uint32_t path = 0; path < PATHS; path++) {
        talk t;
        nst_fixed_policy state;
        const nst_token_policy policy = fixed(&state, path);
        begin(&t, prompt_tokens, 5);
        CHECK(generate(&t, 12, &policy) == NST_OK);
        CHECK(t.decode.count == 17 && is_greedy(&t, 5, path));
        CHECK(t.stats.generated == 12 && t.stats.reason == NST_STOP_LENGTH);
        CHECK(t.stats.prompt_tokens == 4 && t.stats.switches == 0);
        CHECK(generate(&t, 3, &policy) == NST_OK); /* goes on; nothing is computed twice */
        CHECK(t.stats.prompt_tokens == 0 && is_greedy(&t, 5, path));
        CHECK(generate(&t, 0, &policy) == NST_OK && t.decode.count == 20);
        end(&t);
    }
}

static void drafts_change_nothing_but_the_runs(void) {
    for (uint32_t tokens = 1; tokens <= VERIFY + 2; tokens++) {
        talk t;
        nst_speculative_policy state = {0, PATHS - 1, tokens, 0.0f};
        const nst_token_policy policy = nst_speculative_policy_use(&state);
        begin(&t, prompt_tokens, 5);
        CHECK(generate(&t, 23, &policy) == NST_OK);
        CHECK(t.stats.generated == 23 && is_greedy(&t, 5, PATHS - 1));
        CHECK(t.stats.accepted <= t.stats.drafted && t.stats.accepted > 0);
        CHECK(generate(&t, LIMIT, &policy) == NST_E_LIMIT); /* to the last token that fits */
        CHECK(t.decode.count == LIMIT && is_greedy(&t, 5, PATHS - 1));
        CHECK(t.stats.reason == NST_STOP_CONTEXT);
        CHECK(generate(&t, 1, &policy) == NST_E_LIMIT && t.decode.count == LIMIT);
        end(&t);
    }
}

static void an_unsure_draft_ends_early(void) {
    talk t;
    nst_speculative_policy state = {0, PATHS - 1, VERIFY, 1.1f}; /* never so sure */
    const nst_token_policy policy = nst_speculative_policy_use(&state);
    begin(&t, prompt_tokens, 5);
    CHECK(generate(&t, 9, &policy) == NST_OK);
    CHECK(t.stats.drafted == 9 && is_greedy(&t, 5, PATHS - 1));
    end(&t);
}

static void drafts_need_greed(void) {
    talk t;
    nst_speculative_policy state = {0, PATHS - 1, VERIFY, 0.0f};
    const nst_token_policy policy = nst_speculative_policy_use(&state);
    const nst_generate_options options = {
        .max_tokens = 3, .prompt_path = NST_NO_PATH, .sampling = {.temperature = 1.0f}};
    begin(&t, prompt_tokens, 5);
    CHECK(nst_decode_generate(&t.decode, &options, &policy, NULL, NULL, &t.stats, NULL) ==
          NST_E_ARGUMENT);
    CHECK(t.decode.count == 5 && t.stats.reason == NST_STOP_ERROR);
    end(&t);
}

/* Whatever run fails, and however: what was made is right, and going on gives the same text. */
static void a_failure_anywhere_costs_no_token(void) {
    nst_speculative_policy drafts = {0, PATHS - 1, 3, 0.0f};
    nst_fixed_policy state;
    const nst_token_policy policies[2] = {fixed(&state, PATHS - 1),
                                          nst_speculative_policy_use(&drafts)};
    for (uint32_t i = 0; i < 2; i++) {
        for (uint32_t fail_at = 1; fail_at < 20; fail_at++) {
            talk t;
            begin(&t, prompt_tokens, 5);
            t.engine.fail_at = fail_at;
            t.engine.fail_code = fail_at % 2 != 0 ? NST_E_CANCELLED : NST_E_ENGINE;
            const int code = generate(&t, 12, &policies[i]);
            CHECK(code == (t.engine.runs >= fail_at ? t.engine.fail_code : NST_OK));
            CHECK(code == NST_OK || t.error.code == code);
            CHECK(is_greedy(&t, 5, PATHS - 1) && t.decode.count == 5 + t.stats.generated);
            CHECK(generate(&t, 17 - t.decode.count, &policies[i]) == NST_OK);
            CHECK(t.decode.count == 17 && is_greedy(&t, 5, PATHS - 1));
            end(&t);
        }
    }
}

static void logits_that_are_not_finite_end_a_generation(void) {
    nst_speculative_policy drafts = {0, PATHS - 1, 3, 0.0f};
    nst_fixed_policy state;
    const nst_token_policy policies[2] = {fixed(&state, 1), nst_speculative_policy_use(&drafts)};
    for (uint32_t i = 0; i < 2; i++) {
        talk t;
        begin(&t, prompt_tokens, 5);
        t.engine.not_finite = true;
        CHECK(generate(&t, 4, &policies[i]) == NST_E_ENGINE && t.decode.count == 5);
        t.engine.not_finite = false;
        CHECK(generate(&t, 4, &policies[i]) == NST_OK && t.decode.count == 9);
        end(&t);
    }
}

static void choose_nowhere(void *self, const nst_token_signals *last, nst_token_choice *out) {
    (void)self;
    out->path = last->generated < 2 ? 0 : PATHS;
}

static void choose_to_verify_nowhere(void *self, const nst_token_signals *last,
                                     nst_token_choice *out) {
    (void)self;
    (void)last;
    out->draft_tokens = 2;
    out->verify = PATHS;
}

static void a_path_that_is_not_there_is_an_error(void) {
    const nst_token_policy nowhere = {.choose = choose_nowhere};
    const nst_token_policy verify = {.choose = choose_to_verify_nowhere};
    nst_fixed_policy state;
    const nst_token_policy policy = fixed(&state, 0);
    nst_generate_options options = {.max_tokens = 4, .prompt_path = PATHS};
    talk t;
    begin(&t, prompt_tokens, 5);
    CHECK(generate(&t, 4, &nowhere) == NST_E_PATH && t.decode.count == 7);
    CHECK(generate(&t, 4, &verify) == NST_E_PATH && t.decode.count == 7);
    CHECK(nst_decode_append(&t.decode, prompt_tokens, 2, NULL) == NST_OK);
    CHECK(nst_decode_generate(&t.decode, &options, &policy, NULL, NULL, NULL, NULL) == NST_E_PATH);
    CHECK(t.decode.count == 9);
    end(&t);
}

static uint32_t go_round(void *self, const nst_token_signals *now) {
    uint32_t *asked = self;
    ++*asked;
    return (now->path + 1) % PATHS;
}

static void choose_first(void *self, const nst_token_signals *last, nst_token_choice *out) {
    (void)self;
    (void)last;
    out->path = 0;
}

static void a_policy_that_is_never_satisfied_comes_to_an_end(void) {
    uint32_t asked = 0;
    const nst_token_policy policy = {.self = &asked, .choose = choose_first, .accept = go_round};
    talk t;
    begin(&t, prompt_tokens, 5);
    CHECK(generate(&t, 2, &policy) == NST_OK && t.decode.count == 7);
    CHECK(asked == 2 * (PATHS + 1) && t.stats.second_runs == 2 * PATHS);
    end(&t);
}

static void choose_in_turn(void *self, const nst_token_signals *last, nst_token_choice *out) {
    (void)self;
    out->path = last->generated % PATHS;
}

static void switches_are_counted(void) {
    const nst_token_policy policy = {.choose = choose_in_turn};
    talk t;
    begin(&t, prompt_tokens, 5);
    CHECK(generate(&t, 7, &policy) == NST_OK && t.stats.switches == 6);
    for (uint32_t i = 0; i < 7; i++) {
        CHECK(t.decode.tokens[5 + i] == answer(t.decode.tokens, 5 + i, i % PATHS));
    }
    end(&t);
}

static int stop_behind(void *user, const nst_token *token) {
    uint32_t *left = user;
    CHECK(token->token < VOCABULARY && token->path < PATHS && token->logits.confidence > 0);
    return --*left == 0;
}

static void generations_stop_where_they_are_told(void) {
    nst_speculative_policy drafts = {0, PATHS - 1, 3, 0.0f};
    nst_fixed_policy state;
    const nst_token_policy policies[2] = {fixed(&state, PATHS - 1),
                                          nst_speculative_policy_use(&drafts)};
    uint8_t letters[VOCABULARY];
    uint32_t ends[VOCABULARY];
    for (uint32_t i = 0; i < VOCABULARY; i++) {
        letters[i] = (uint8_t)('a' + i);
        ends[i] = i + 1;
    }
    for (uint32_t i = 0; i < 2; i++) {
        talk whole;
        begin(&whole, prompt_tokens, 5);
        CHECK(generate(&whole, 20, &policies[i]) == NST_OK);
        const uint32_t *made = whole.decode.tokens + 5;
        uint32_t first = 0; /* where the token at 6 comes for the first time */
        while (made[first] != made[6]) {
            first++;
        }
        talk t;
        nst_generate_options options = {
            .max_tokens = 20, .prompt_path = 0, .stop_tokens = &made[6], .stop_token_count = 1};
        begin(&t, prompt_tokens, 5);
        CHECK(nst_decode_generate(&t.decode, &options, &policies[i], NULL, NULL, &t.stats, NULL) ==
              NST_OK);
        CHECK(t.stats.reason == NST_STOP_TOKEN && t.stats.generated == first + 1);
        end(&t);

        uint32_t left = 4;
        options.stop_token_count = 0;
        begin(&t, prompt_tokens, 5);
        CHECK(nst_decode_generate(&t.decode, &options, &policies[i], stop_behind, &left, &t.stats,
                                  NULL) == NST_OK);
        CHECK(t.stats.reason == NST_STOP_CALLER && t.stats.generated == 4);
        end(&t);

        const uint8_t string[3] = {letters[made[4]], letters[made[5]], letters[made[6]]};
        const uint32_t string_end = 3;
        const nst_stop_text stop = {letters, ends, VOCABULARY, 1, string, &string_end};
        options.stop = &stop;
        begin(&t, prompt_tokens, 5);
        CHECK(nst_decode_generate(&t.decode, &options, &policies[i], NULL, NULL, &t.stats, NULL) ==
              NST_OK);
        CHECK(t.stats.reason == NST_STOP_TEXT && t.stats.generated <= 7);
        CHECK(memcmp(t.decode.tokens, whole.decode.tokens, t.decode.count * sizeof(uint32_t)) == 0);
        end(&t);
        end(&whole);
    }
}

static void conversations_are_appended_to_and_rewound(void) {
    const uint32_t bad[3] = {1, VOCABULARY, 2};
    uint32_t many[LIMIT] = {0};
    nst_fixed_policy state;
    const nst_token_policy policy = fixed(&state, 1);
    talk t;
    begin(&t, prompt_tokens, 0);
    CHECK(generate(&t, 1, &policy) == NST_E_ARGUMENT); /* no prompt */
    CHECK(nst_decode_append(&t.decode, bad, 3, &t.error) == NST_E_ARGUMENT && t.decode.count == 0);
    CHECK(t.error.actual == VOCABULARY);
    CHECK(nst_decode_append(&t.decode, many, LIMIT, NULL) == NST_OK);
    CHECK(nst_decode_append(&t.decode, many, 1, &t.error) == NST_E_LIMIT);
    CHECK(t.error.expected == LIMIT && t.error.actual == LIMIT + 1);
    CHECK(generate(&t, 1, &policy) == NST_E_LIMIT);
    CHECK(nst_decode_rewind(&t.decode, LIMIT + 1, NULL) == NST_E_ARGUMENT);
    CHECK(nst_decode_rewind(&t.decode, 8, NULL) == NST_OK);
    CHECK(t.decode.count == 8 && t.decode.done == 8 && t.engine.count == 8);
    CHECK(nst_decode_append(&t.decode, prompt_tokens, 5, NULL) == NST_OK);
    CHECK(generate(&t, 6, &policy) == NST_OK && is_greedy(&t, 13, 1));
    CHECK(nst_decode_rewind(&t.decode, 0, NULL) == NST_OK && t.engine.count == 0);
    end(&t);
}

static void nonsense_is_refused_before_anything_runs(void) {
    const nst_token_policy none = {.self = NULL};
    nst_fixed_policy state;
    const nst_token_policy policy = fixed(&state, 1);
    const nst_stop_text broken = {NULL, NULL, 0, 1, NULL, NULL};
    nst_generate_options options = {.max_tokens = 1, .prompt_path = NST_NO_PATH};
    talk t;
    begin(&t, prompt_tokens, 5);
    CHECK(nst_decode_generate(&t.decode, &options, &none, NULL, NULL, NULL, NULL) ==
          NST_E_ARGUMENT);
    CHECK(nst_decode_generate(&t.decode, &options, NULL, NULL, NULL, NULL, NULL) == NST_E_ARGUMENT);
    CHECK(nst_decode_generate(&t.decode, NULL, &policy, NULL, NULL, NULL, NULL) == NST_E_ARGUMENT);
    options.stop = &broken;
    CHECK(nst_decode_generate(&t.decode, &options, &policy, NULL, NULL, NULL, NULL) ==
          NST_E_ARGUMENT);
    options.stop = NULL;
    options.stop_token_count = 1;
    CHECK(nst_decode_generate(&t.decode, &options, &policy, NULL, NULL, NULL, NULL) ==
          NST_E_ARGUMENT);
    options.stop_token_count = 0;
    options.sampling.top_p = 2.0f;
    CHECK(nst_decode_generate(&t.decode, &options, &policy, NULL, NULL, NULL, NULL) ==
          NST_E_ARGUMENT);
    CHECK(t.engine.runs == 0);
    end(&t);
}

static void the_same_seed_draws_the_same_tokens(void) {
    nst_fixed_policy state;
    const nst_token_policy policy = fixed(&state, 0);
    uint32_t first[20];
    uint32_t different = 0;
    for (uint32_t turn = 0; turn < 3; turn++) {
        const nst_generate_options options = {
            .max_tokens = 20,
            .prompt_path = NST_NO_PATH,
            .sampling = {
                .temperature = 2.0f, .top_k = 7, .top_p = 0.95f, .seed = turn == 2 ? 6 : 5}};
        talk t;
        begin(&t, prompt_tokens, 5);
        CHECK(nst_decode_generate(&t.decode, &options, &policy, NULL, NULL, NULL, NULL) == NST_OK);
        if (turn == 0) {
            memcpy(first, t.decode.tokens + 5, sizeof first);
        }
        for (uint32_t i = 0; i < 20; i++) {
            CHECK(turn != 1 || first[i] == t.decode.tokens[5 + i]);
            different += turn == 2 && first[i] != t.decode.tokens[5 + i];
        }
        end(&t);
    }
    CHECK(different > 0);
}

int main(void) {
    greedy_tokens_are_those_of_the_path();
    drafts_change_nothing_but_the_runs();
    an_unsure_draft_ends_early();
    drafts_need_greed();
    a_failure_anywhere_costs_no_token();
    logits_that_are_not_finite_end_a_generation();
    a_path_that_is_not_there_is_an_error();
    a_policy_that_is_never_satisfied_comes_to_an_end();
    switches_are_counted();
    generations_stop_where_they_are_told();
    conversations_are_appended_to_and_rewound();
    nonsense_is_refused_before_anything_runs();
    the_same_seed_draws_the_same_tokens();
    return finish();
}
