/* Unit tests of policies that say more than a path: steering, soft steps, routes and modes; and of how
 * the loop hands on what they say. Arrays have exactly the size that the headers ask for, on the heap,
 * where the sanitizer watches their ends. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "decode.h"
#include "mode_policy.h"
#include "route_policy.h"
#include "soft_policy.h"
#include "steering_policy.h"

enum { VOCABULARY = 7, LIMIT = 24 };

/* An engine that notes how tokens were fed; what it says follows from the last token alone. */
typedef struct engine {
    nst_token_feed feeds[LIMIT];
    uint32_t runs;
    uint32_t fail_at;
    float *logits;
} engine;

static int run(void *context, uint32_t path, const uint32_t *tokens, uint32_t position,
               uint32_t count, bool all, const float **logits, nst_error *err) {
    engine *self = context;
    (void)path;
    (void)all;
    if (++self->runs == self->fail_at) {
        return nst_fail(err, NST_E_CANCELLED, NULL, NULL, 0, 0, "asked for");
    }
    for (uint32_t i = 0; i < VOCABULARY; i++) {
        self->logits[i] = (float)((i + tokens[position + count - 1] * 3) % VOCABULARY);
    }
    *logits = self->logits;
    return NST_OK;
}

static void rewind_to(void *context, uint32_t count) {
    engine *self = context;
    memset(self->feeds + count, 0, (LIMIT - count) * sizeof *self->feeds);
}

static uint64_t now_ns(void *context) {
    (void)context;
    return 0;
}

static int feed(void *context, uint32_t position, const nst_token_feed *how, nst_error *err) {
    (void)err;
    CHECK(position < LIMIT);
    ((engine *)context)->feeds[position] = *how;
    return NST_OK;
}

typedef struct talk {
    engine engine;
    nst_decode decode;
    nst_token made[LIMIT];
    uint32_t count;
    nst_error error;
} talk;

static int note(void *user, const nst_token *token) {
    talk *t = user;
    t->made[t->count++] = *token;
    return 0;
}

static void begin(talk *t, bool feeds) {
    static const uint32_t prompt[3] = {1, 2, 3};
    memset(t, 0, sizeof *t);
    t->engine.logits = malloc(VOCABULARY * sizeof(float));
    const nst_decode_engine table = {.context = &t->engine,
                                     .vocabulary = VOCABULARY,
                                     .paths = 2,
                                     .limit = LIMIT,
                                     .verify_tokens = 4,
                                     .run = run,
                                     .rewind = rewind_to,
                                     .now_ns = now_ns,
                                     .feed = feeds ? feed : NULL};
    nst_decode_init(&t->decode, &table, malloc(LIMIT * sizeof(uint32_t)),
                    malloc(VOCABULARY * sizeof(nst_candidate)));
    CHECK(nst_decode_append(&t->decode, prompt, 3, NULL) == NST_OK);
}

static void end(talk *t) {
    free(t->engine.logits);
    free(t->decode.tokens);
    free(t->decode.candidates);
}

static int generate(talk *t, uint32_t max_tokens, const nst_token_policy *policy) {
    const nst_generate_options options = {
        .max_tokens = max_tokens, .prompt_path = NST_NO_PATH, .prompt_steering = 4};
    return nst_decode_generate(&t->decode, &options, policy, note, t, NULL, &t->error);
}

static nst_token_policy fixed(void) {
    static nst_fixed_policy state = {1};
    return nst_fixed_policy_use(&state);
}

static void the_likeliest_tokens_come_with_their_shares(void) {
    const float logits[5] = {1.0f, 3.0f, 2.0f, 3.0f, -80.0f};
    for (uint32_t count = 0; count <= 7; count++) {
        const uint32_t kept = count < 5 ? count : 5;
        const uint32_t order[5] = {1, 3, 2, 0, 4};
        nst_candidate *out = malloc((kept + 1) * sizeof *out);
        double total = 0;
        CHECK(nst_top_candidates(logits, 5, count, out) == kept);
        for (uint32_t i = 0; i < kept; i++) {
            total += exp((double)logits[order[i]]);
        }
        for (uint32_t i = 0; i < kept; i++) {
            CHECK(out[i].token == order[i]);
            CHECK(fabs((double)out[i].weight - exp((double)logits[order[i]]) / total) < 1e-6);
        }
        free(out);
    }
}

static void what_a_policy_says_reaches_the_engine(void) {
    talk t;
    nst_token_policy inner = fixed();
    nst_soft_policy soft = {.confidence = 0.0f, .tokens = 3};
    nst_steering_policy steering;
    CHECK(nst_soft_policy_init(&soft, &inner));
    inner = nst_soft_policy_use(&soft);
    CHECK(inner.accept == NULL && inner.route == NULL);
    CHECK(nst_steering_policy_init(&steering, &inner, 0x21, 0.0f));
    const nst_token_policy policy = nst_steering_policy_use(&steering);
    begin(&t, true);
    CHECK(generate(&t, 4, &policy) == NST_OK && t.count == 4);
    CHECK(t.engine.feeds[0].steering == 4 && t.engine.feeds[1].steering == 4);
    for (uint32_t i = 0; i < 4; i++) {
        const nst_token_feed *how = &t.engine.feeds[2 + i];
        CHECK(how->steering == 0x21 && how->routed == 0 && t.made[i].path == 1);
        CHECK(how->soft_tokens == (i == 0 ? 0u : 3u) && t.made[i].soft_tokens == how->soft_tokens);
        CHECK(i == 0 || how->soft[0].token == t.decode.tokens[2 + i]);
    }
    /* An error takes back how the token was fed that was not finished. */
    t.engine.fail_at = t.engine.runs + 2;
    CHECK(generate(&t, 4, &policy) == NST_E_CANCELLED);
    CHECK(t.decode.count == 8 && t.decode.done == 7 && t.engine.feeds[6].steering == 0x21);
    CHECK(t.engine.feeds[7].steering == 0 && t.engine.feeds[7].soft_tokens == 0);
    end(&t);
    begin(&t, false);
    CHECK(generate(&t, 1, &policy) == NST_E_ARGUMENT && t.decode.count == 3);
    end(&t);
}

static void steering_waits_for_entropy(void) {
    nst_steering_policy state;
    const nst_token_policy inner = fixed();
    CHECK(nst_steering_policy_init(&state, &inner, 2, 1.5f));
    const nst_token_policy policy = nst_steering_policy_use(&state);
    const struct {
        uint32_t path;
        float bits;
        uint32_t steering;
    } steps[] = {{NST_NO_PATH, 9.0f, 0}, {1, 1.4f, 0}, {1, 1.5f, 2}};
    for (size_t i = 0; i < 3; i++) {
        const nst_token_signals last = {.path = steps[i].path,
                                        .logits = {.entropy_bits = steps[i].bits}};
        nst_token_choice choice = {0};
        policy.choose(policy.self, &last, &choice);
        CHECK(choice.steering == steps[i].steering && choice.path == 1);
    }
    CHECK(!nst_steering_policy_init(&state, &inner, 2, NAN));
    CHECK(!nst_steering_policy_init(&state, &(nst_token_policy){0}, 2, 0.0f));
    CHECK(!nst_steering_policy_init(NULL, &inner, 2, 0.0f));
}

static void the_trend_switches_with_dwell_and_a_cap(void) {
    const float bits[] = {2.0f, 2.5f, 1.5f, 1.9f, 1.9f, 1.8f, 9.0f, 9.0f};
    const bool wanted[] = {true, true, false, false, true, false, false, false};
    const nst_token_policy inner = fixed();
    nst_soft_policy state = {
        .decides = NST_SOFT_TREND, .dwell = 2, .most_switches = 2, .tokens = 10};
    for (int round = 0; round < 2; round++) { /* the second time it remembers nothing */
        CHECK(nst_soft_policy_init(&state, &inner));
        const nst_token_policy policy = nst_soft_policy_use(&state);
        for (size_t i = 0; i < 8; i++) {
            const nst_token_signals last = {.path = 0, .logits = {.entropy_bits = bits[i]}};
            nst_token_choice choice = {0};
            policy.choose(policy.self, &last, &choice);
            CHECK((choice.soft_tokens == 10) == wanted[i]);
        }
        CHECK(state.switches == 2);
    }
    state.tokens = NST_SOFT_MAX + 1;
    CHECK(!nst_soft_policy_init(&state, &inner));
    state.tokens = 0;
    CHECK(!nst_soft_policy_init(&state, &inner));
    state = (nst_soft_policy){.confidence = NAN, .tokens = 1};
    CHECK(!nst_soft_policy_init(&state, &inner));
    state.decides = 2;
    CHECK(!nst_soft_policy_init(&state, &inner));
}

static float *copy(const float *values, size_t count) {
    float *out = malloc(count * sizeof *out);
    memcpy(out, values, count * sizeof *out);
    return out;
}

/* Two neurons that look at one number each; routes that lose by them. */
static void the_route_of_the_least_loss_and_cost_is_taken(void) {
    float *hidden_weight = copy((const float[]){8, 0, 0, 8}, 4);
    float *hidden_bias = copy((const float[]){0, 0}, 2);
    float *output_weight = copy((const float[]){1, 0, 0, 1, 0, 0}, 6);
    float *output_bias = copy((const float[]){0, 0, 1}, 3);
    float *costs = copy((const float[]){1, 2, 5}, 3);
    float *scratch = copy((const float[]){0, 0}, 2);
    uint8_t *levels = malloc(6);
    memcpy(levels, (const uint8_t[]){0, 1, 2, 0, 2, 2}, 6);
    nst_route_policy state = {.path = 1,
                              .dim = 2,
                              .hidden = 2,
                              .routes = 3,
                              .layers = 2,
                              .hidden_weight = hidden_weight,
                              .hidden_bias = hidden_bias,
                              .output_weight = output_weight,
                              .output_bias = output_bias,
                              .costs = costs,
                              .levels = levels,
                              .scratch = scratch};
    CHECK(nst_route_policy_init(&state));
    const nst_token_policy policy = nst_route_policy_use(&state);
    const struct {
        float stream[2];
        float price;
        uint32_t route;
    } cases[] = {{{3, -3}, 0.0f, 1}, {{-1, 1}, 0.0f, 0}, {{2, 2}, 0.0f, 2}, {{2, 2}, 9.0f, 0}};
    for (size_t i = 0; i < 4; i++) {
        nst_layer_input at = {.layers = 3, .levels = 2, .path_level = 2, .dim = 2};
        float *stream = copy(cases[i].stream, 2);
        at.stream = stream;
        state.price = cases[i].price;
        CHECK(policy.route(policy.self, &at) == 2); /* of the core: the path's own */
        for (at.layer = 1; at.layer < 3; at.layer++) {
            CHECK(policy.route(policy.self, &at) == levels[cases[i].route * 2 + at.layer - 1]);
        }
        at.dim = 3; /* another model's: no level that there is */
        CHECK(policy.route(policy.self, &at) == UINT32_MAX);
        free(stream);
    }
    state.price = NAN;
    CHECK(!nst_route_policy_init(&state));
    state.price = 0;
    state.levels = NULL;
    CHECK(!nst_route_policy_init(&state) && !nst_route_policy_init(NULL));
    free(hidden_weight);
    free(hidden_bias);
    free(output_weight);
    free(output_bias);
    free(costs);
    free(scratch);
    free(levels);
}

static void a_layer_takes_the_level_of_the_largest_score(void) {
    float *weight = copy((const float[]){1, 0, 0, 1, -1, -1}, 6);
    float *bias = copy((const float[]){0, 0, 0.5f}, 3);
    nst_layer_route_policy state = {.path = 0, .dim = 2, .layers = 2};
    state.routers[1] = (nst_layer_router){.weight = weight, .bias = bias, .levels = 3};
    CHECK(nst_layer_route_policy_init(&state));
    const nst_token_policy policy = nst_layer_route_policy_use(&state);
    const float streams[3][2] = {{5, 1}, {1, 5}, {-1, -1}};
    for (uint32_t i = 0; i < 3; i++) {
        nst_layer_input at = {.layer = 1,
                              .layers = 2,
                              .levels = 2,
                              .path_level = 2,
                              .skippable = 1,
                              .dim = 2,
                              .stream = streams[i]};
        CHECK(policy.route(policy.self, &at) == i);
        at.skippable = 0;
        CHECK(policy.route(policy.self, &at) == (i == 0 ? 1 : i));
        at.layer = 0;
        CHECK(policy.route(policy.self, &at) == 2);
    }
    state.routers[1].bias = NULL;
    CHECK(!nst_layer_route_policy_init(&state));
    state.layers = NST_ROUTE_LAYERS_MAX + 1;
    CHECK(!nst_layer_route_policy_init(&state));
    free(weight);
    free(bias);
}

/* What a policy of modes forces on a model that writes `writes`; returns the tokens of the answer. */
static uint32_t think(nst_mode_policy *state, const uint32_t *writes, uint32_t count,
                      uint32_t *made) {
    nst_token_signals last = {.path = NST_NO_PATH, .token = 0};
    uint32_t answers = 0;
    CHECK(nst_mode_policy_init(state));
    const nst_token_policy policy = nst_mode_policy_use(state);
    for (uint32_t i = 0; i < count; i++) {
        nst_token_choice choice = {0};
        policy.choose(policy.self, &last, &choice);
        made[i] = choice.forced != 0 ? choice.token : writes[i];
        answers += choice.path == 1 ? 1 : 0;
        last = (nst_token_signals){.path = choice.path, .token = made[i], .generated = i + 1};
    }
    return answers;
}

static void a_thought_is_closed_by_itself_or_by_its_budget(void) {
    static const uint32_t closing[3] = {5, 5, 6};
    nst_fixed_policy thinks = {0}, answers = {1};
    nst_mode_policy state = {.thinking = nst_fixed_policy_use(&thinks),
                             .answering = nst_fixed_policy_use(&answers),
                             .thinking_tokens = 4,
                             .closing_count = 3,
                             .closing = closing};
    uint32_t made[9];
    const uint32_t never[9] = {1, 2, 3, 4, 1, 2, 3, 4, 1};
    CHECK(think(&state, never, 9, made) == 2);
    CHECK(memcmp(made, (const uint32_t[]){1, 2, 3, 4, 5, 5, 6, 4, 1}, sizeof made) == 0);
    /* It overlaps itself. */
    const uint32_t own[9] = {5, 5, 5, 6, 1, 1, 1, 1, 1};
    CHECK(think(&state, own, 9, made) == 5 && memcmp(made, own, sizeof made) == 0);
    /* Closing tokens that are begun and not gone on with are part of the thought. */
    const uint32_t begun[9] = {1, 2, 3, 5, 4, 5, 1, 1, 1};
    CHECK(think(&state, begun, 9, made) == 1);
    CHECK(memcmp(made, (const uint32_t[]){1, 2, 3, 5, 4, 5, 5, 6, 1}, sizeof made) == 0);
    state.thinking_tokens = 0;
    CHECK(think(&state, never, 9, made) == 6 && memcmp(made, closing, sizeof closing) == 0);
    state.closing_count = 0;
    CHECK(!nst_mode_policy_init(&state) && !nst_mode_policy_init(NULL));
}

static void choices_that_make_no_sense_end_a_generation(void) {
    static const uint32_t closing[1] = {VOCABULARY};
    nst_mode_policy mode = {.thinking = fixed(), .answering = fixed(), .closing_count = 1};
    nst_layer_route_policy routed = {.path = 1, .dim = 2, .layers = 1};
    nst_speculative_policy drafts = {0, 1, 4, 0.0f};
    nst_token_policy policy;
    talk t;
    begin(&t, true);
    mode.closing = closing;
    CHECK(nst_mode_policy_init(&mode));
    policy = nst_mode_policy_use(&mode);
    CHECK(generate(&t, 1, &policy) == NST_E_ARGUMENT && t.decode.count == 3);
    CHECK(nst_layer_route_policy_init(&routed));
    policy = nst_speculative_policy_use(&drafts);
    policy.route = nst_layer_route_policy_use(&routed).route;
    CHECK(generate(&t, 1, &policy) == NST_E_ARGUMENT && t.decode.count == 3);
    policy = nst_layer_route_policy_use(&routed);
    CHECK(generate(&t, 1, &policy) == NST_OK && t.engine.feeds[2].routed == 1);
    end(&t);
}

int main(void) {
    the_likeliest_tokens_come_with_their_shares();
    what_a_policy_says_reaches_the_engine();
    steering_waits_for_entropy();
    the_trend_switches_with_dwell_and_a_cap();
    the_route_of_the_least_loss_and_cost_is_taken();
    a_layer_takes_the_level_of_the_largest_score();
    a_thought_is_closed_by_itself_or_by_its_budget();
    choices_that_make_no_sense_end_a_generation();
    return finish();
}
