#include "decode.h"

#include <stddef.h>
#include <string.h>

/* One generation in progress. */
typedef struct nst_generation {
    nst_decode *decode;
    const nst_generate_options *options;
    const nst_token_policy *policy;
    nst_on_token on_token;
    void *user;
    nst_generate_stats *stats;
    nst_sampler sampler;
    nst_token_signals last; /* what the policy sees */
    nst_stop_tail tail;
    const float *logits;  /* that the last token was drawn from; null: there are none yet */
    uint32_t computed_by; /* path of the last run but drafts; NST_NO_PATH: of another generation */
    uint64_t start_ns;
    bool stopped;
} nst_generation;

void nst_decode_init(nst_decode *decode, const nst_decode_engine *engine, uint32_t *tokens,
                     nst_candidate *candidates) {
    decode->engine = *engine;
    decode->tokens = tokens;
    decode->candidates = candidates;
    decode->count = 0;
    decode->done = 0;
}

int nst_decode_append(nst_decode *decode, const uint32_t *tokens, uint32_t count, nst_error *err) {
    for (uint32_t i = 0; i < count; i++) {
        if (tokens[i] >= decode->engine.vocabulary) {
            return nst_fail(err, NST_E_ARGUMENT, NULL, NULL, decode->engine.vocabulary, tokens[i],
                            "the prompt has a token that the vocabulary has not");
        }
    }
    if (count > decode->engine.limit - decode->count) {
        return nst_fail(err, NST_E_LIMIT, NULL, NULL, decode->engine.limit,
                        (uint64_t)decode->count + count,
                        "the prompt is longer than what is left of the context");
    }
    if (count != 0) {
        memcpy(decode->tokens + decode->count, tokens, count * sizeof *tokens);
    }
    decode->count += count;
    return NST_OK;
}

int nst_decode_rewind(nst_decode *decode, uint32_t count, nst_error *err) {
    if (count > decode->count) {
        return nst_fail(err, NST_E_ARGUMENT, NULL, NULL, decode->count, count,
                        "there are fewer tokens than that");
    }
    decode->count = count;
    if (decode->done > count) {
        decode->done = count;
        decode->engine.rewind(decode->engine.context, count);
    }
    return NST_OK;
}

static uint64_t now(const nst_decode *decode) {
    return decode->engine.now_ns(decode->engine.context);
}

static int check_path(const nst_decode *decode, uint32_t path, nst_error *err) {
    if (path < decode->engine.paths) {
        return NST_OK;
    }
    return nst_fail(err, NST_E_PATH, NULL, NULL, decode->engine.paths, path,
                    "the policy names a path that is not there");
}

/* Logits of the last token, whose predecessors are all computed, by one path. */
static int run_last(nst_decode *decode, uint32_t path, const float **logits,
                    nst_logit_signals *signals, nst_error *err) {
    const nst_decode_engine *engine = &decode->engine;
    int code = check_path(decode, path, err);
    if (code == NST_OK) {
        code = engine->run(engine->context, path, decode->tokens, decode->count - 1, 1, false,
                           logits, err);
    }
    if (code == NST_OK && !nst_measure_logits(*logits, engine->vocabulary, signals)) {
        code = nst_fail(err, NST_E_ENGINE, NULL, NULL, 0, path, "the logits are not finite");
    }
    return code;
}

/* Say how the token at `position` is computed. */
static int feed_token(nst_decode *decode, uint32_t position, const nst_token_feed *feed,
                      nst_error *err) {
    const nst_decode_engine *engine = &decode->engine;
    if (engine->feed != NULL) {
        return engine->feed(engine->context, position, feed, err);
    }
    if (feed->steering != 0 || feed->soft_tokens != 0 || feed->routed != 0) {
        return nst_fail(err, NST_E_ARGUMENT, NULL, NULL, 0, 0,
                        "this engine computes tokens as they are");
    }
    return NST_OK;
}

/* Say how the last token is computed, by a policy's choice. */
static int feed_last(nst_generation *g, const nst_token_choice *choice, nst_error *err) {
    nst_token_feed feed = {.steering = choice->steering, .routed = g->policy->route != NULL};
    if (choice->soft_tokens > NST_SOFT_MAX) {
        return nst_fail(err, NST_E_ARGUMENT, NULL, NULL, NST_SOFT_MAX, choice->soft_tokens,
                        "a soft step is the mean of fewer tokens");
    }
    if (choice->soft_tokens != 0 && g->logits == NULL) {
        return nst_fail(err, NST_E_ARGUMENT, NULL, NULL, 0, choice->soft_tokens,
                        "a generation cannot begin with a soft step");
    }
    if (choice->soft_tokens != 0) {
        feed.soft_tokens = nst_top_candidates(g->logits, g->decode->engine.vocabulary,
                                              choice->soft_tokens, feed.soft);
    }
    return feed_token(g->decode, g->decode->count - 1, &feed, err);
}

/* Everything of the conversation but its last token. */
static int run_prompt(nst_generation *g, nst_error *err) {
    nst_decode *decode = g->decode;
    const nst_decode_engine *engine = &decode->engine;
    const uint32_t path =
        g->options->prompt_path == NST_NO_PATH ? engine->paths - 1 : g->options->prompt_path;
    const uint32_t wanted = decode->count - 1;
    const nst_token_feed feed = {.steering = g->options->prompt_steering};
    const float *logits = NULL;
    int code = check_path(decode, path, err);
    for (uint32_t i = decode->done; code == NST_OK && i < wanted; i++) {
        code = feed_token(decode, i, &feed, err);
    }
    if (code == NST_OK && wanted > decode->done) {
        code = engine->run(engine->context, path, decode->tokens, decode->done,
                           wanted - decode->done, false, &logits, err);
        if (code == NST_OK) {
            g->stats->prompt_tokens = wanted - decode->done;
            decode->done = wanted;
            g->computed_by = path;
        }
    }
    return code;
}

static bool is_stop_token(const nst_generate_options *options, uint32_t token) {
    for (uint32_t i = 0; i < options->stop_token_count; i++) {
        if (options->stop_tokens[i] == token) {
            return true;
        }
    }
    return false;
}

static void stop(nst_generation *g, nst_stop_reason reason) {
    g->stopped = true;
    g->stats->reason = (uint32_t)reason;
}

/* Put a token at the end of the conversation and tell everybody. There is room for it. */
static void emit(nst_generation *g, const nst_token *token) {
    nst_decode *decode = g->decode;
    const nst_generate_options *options = g->options;
    decode->done = decode->count;
    decode->tokens[decode->count++] = token->token;
    if (g->last.path != NST_NO_PATH && g->last.path != token->path) {
        g->stats->switches++;
    }
    g->last.token = token->token;
    g->last.path = token->path;
    g->computed_by = token->path;
    g->last.logits = token->logits;
    g->last.token_ns = token->token_ns;
    g->last.elapsed_ns = now(decode) - g->start_ns;
    g->last.generated = ++g->stats->generated;
    const bool text_ends =
        options->stop != NULL && nst_stop_take(options->stop, &g->tail, token->token);
    const int said = g->on_token != NULL ? g->on_token(g->user, token) : 0;
    if (is_stop_token(options, token->token)) {
        stop(g, NST_STOP_TOKEN);
    } else if (text_ends) {
        stop(g, NST_STOP_TEXT);
    } else if (said != 0) {
        stop(g, NST_STOP_CALLER);
    } else if (g->stats->generated >= options->max_tokens) {
        stop(g, NST_STOP_LENGTH);
    }
}

/* One token by one path, or by the next one as long as the policy is not satisfied. */
static int step(nst_generation *g, const nst_token_choice *choice, uint32_t path, nst_error *err) {
    const uint64_t begin = now(g->decode);
    const float *logits = NULL;
    nst_token token = {.path = path, .soft_tokens = choice->soft_tokens};
    int code = feed_last(g, choice, err);
    if (code != NST_OK) {
        return code;
    }
    if (choice->forced != 0 && choice->token >= g->decode->engine.vocabulary) {
        return nst_fail(err, NST_E_ARGUMENT, NULL, NULL, g->decode->engine.vocabulary,
                        choice->token, "the policy forces a token that the vocabulary has not");
    }
    for (uint32_t tries = 0;; tries++) {
        code = run_last(g->decode, token.path, &logits, &token.logits, err);
        if (code != NST_OK) {
            return code;
        }
        if (g->policy->accept == NULL) {
            break;
        }
        nst_token_signals signals = g->last;
        signals.path = token.path;
        signals.logits = token.logits;
        signals.token_ns = now(g->decode) - begin;
        const uint32_t next = g->policy->accept(g->policy->self, &signals);
        if (next == NST_NO_PATH || tries >= g->decode->engine.paths) {
            break; /* a policy that goes round in circles has had every path */
        }
        token.path = next;
        g->stats->second_runs++;
    }
    token.token = choice->forced != 0 ? choice->token
                                      : nst_sampler_draw(&g->sampler, logits, token.logits.best);
    g->logits = logits;
    token.token_ns = now(g->decode) - begin;
    emit(g, &token);
    return NST_OK;
}

/* Draft greedily; returns how many tokens stand behind the conversation's last one. */
static int draft(nst_generation *g, const nst_token_choice *choice, uint32_t room,
                 uint32_t *drafted, nst_error *err) {
    nst_decode *decode = g->decode;
    const uint32_t count = decode->count;
    int code = NST_OK;
    *drafted = 0;
    while (code == NST_OK && *drafted < room) {
        const float *logits = NULL;
        nst_logit_signals signals;
        code = feed_last(g, choice, err);
        if (code == NST_OK) {
            code = run_last(decode, choice->path, &logits, &signals, err);
        }
        if (code == NST_OK) {
            decode->tokens[decode->count++] = signals.best;
            ++*drafted;
            if (signals.confidence < choice->draft_confidence) {
                break;
            }
        }
    }
    decode->count = count; /* drafts lie behind it until they are verified */
    return code;
}

/* A draft may compute tokens anew that were left by other paths, and what it leaves may be kept. So
 * that the output is the verifying path's, that path sees to them first. */
static int prepare_to_verify(nst_generation *g, uint32_t verify, nst_error *err) {
    nst_decode *decode = g->decode;
    const float *logits = NULL;
    if (g->computed_by == verify || decode->done == 0) {
        return NST_OK;
    }
    return decode->engine.run(decode->engine.context, verify, decode->tokens, decode->done - 1, 1,
                              false, &logits, err);
}

/* Draft, verify all drafts in one run, keep those that the verifying path would have made, and its
 * own token for the first that it would not. */
static int speculate(nst_generation *g, const nst_token_choice *choice, nst_error *err) {
    nst_decode *decode = g->decode;
    const nst_decode_engine *engine = &decode->engine;
    const uint64_t begin = now(decode);
    const uint32_t first = decode->count - 1;
    const uint32_t left = g->options->max_tokens - g->stats->generated;
    uint32_t room = choice->draft_tokens;
    uint32_t drafted = 0;
    const float *logits = NULL;
    room = room < engine->verify_tokens ? room : engine->verify_tokens;
    room = room < left ? room : left;
    room = room < engine->limit - decode->count ? room : engine->limit - decode->count;
    int code = check_path(decode, choice->verify, err);
    if (code == NST_OK) {
        code = prepare_to_verify(g, choice->verify, err);
    }
    if (code == NST_OK) {
        code = draft(g, choice, room, &drafted, err);
    }
    if (code == NST_OK) {
        code = engine->run(engine->context, choice->verify, decode->tokens, first, drafted, true,
                           &logits, err);
    }
    if (code != NST_OK) {
        return code;
    }
    g->stats->drafted += drafted;
    const uint64_t share_ns = (now(decode) - begin) / drafted;
    for (uint32_t i = 0; i < drafted && !g->stopped; i++) {
        nst_token token = {.path = choice->verify, .token_ns = share_ns};
        if (!nst_measure_logits(logits + (size_t)i * engine->vocabulary, engine->vocabulary,
                                &token.logits)) {
            return nst_fail(err, NST_E_ENGINE, NULL, NULL, 0, choice->verify,
                            "the logits are not finite");
        }
        const bool right = decode->tokens[first + 1 + i] == token.logits.best;
        token.token = token.logits.best;
        token.drafted = right ? 1 : 0;
        g->stats->accepted += right ? 1 : 0;
        g->logits = logits + (size_t)i * engine->vocabulary;
        emit(g, &token);
        if (!right) {
            break;
        }
    }
    /* Rows of drafts that were wrong are forgotten. */
    engine->rewind(engine->context, decode->done);
    return NST_OK;
}

static int next_tokens(nst_generation *g, nst_error *err) {
    nst_token_choice choice = {.path = 0};
    if (g->decode->count == g->decode->engine.limit) {
        g->stats->reason = NST_STOP_CONTEXT;
        return nst_fail(err, NST_E_LIMIT, NULL, NULL, g->decode->engine.limit, g->decode->count,
                        "the context is full");
    }
    g->policy->choose(g->policy->self, &g->last, &choice);
    if (choice.draft_tokens != 0 && g->decode->engine.verify_tokens != 0) {
        if (g->options->sampling.temperature > 0.0f) {
            return nst_fail(err, NST_E_ARGUMENT, NULL, NULL, 0, 0,
                            "drafts are verified greedily: set the temperature to 0");
        }
        if (choice.soft_tokens != 0 || choice.forced != 0 || g->policy->route != NULL) {
            return nst_fail(err, NST_E_ARGUMENT, NULL, NULL, 0, 0,
                            "a draft is neither soft nor forced nor routed");
        }
        return speculate(g, &choice, err);
    }
    return step(g, &choice, choice.draft_tokens != 0 ? choice.verify : choice.path, err);
}

int nst_decode_generate(nst_decode *decode, const nst_generate_options *options,
                        const nst_token_policy *policy, nst_on_token on_token, void *user,
                        nst_generate_stats *stats, nst_error *err) {
    nst_generate_stats own;
    nst_generation g = {.decode = decode,
                        .options = options,
                        .policy = policy,
                        .on_token = on_token,
                        .user = user,
                        .stats = stats != NULL ? stats : &own,
                        .last = {.token = NST_NO_PATH, .path = NST_NO_PATH},
                        .computed_by = NST_NO_PATH};
    memset(g.stats, 0, sizeof *g.stats);
    g.stats->reason = NST_STOP_ERROR;
    if (policy == NULL || policy->choose == NULL || options == NULL ||
        !nst_sampler_init(&g.sampler, &options->sampling, decode->candidates,
                          decode->engine.vocabulary) ||
        (options->stop != NULL && !nst_stop_valid(options->stop)) ||
        (options->stop_token_count != 0 && options->stop_tokens == NULL)) {
        return nst_fail(err, NST_E_ARGUMENT, NULL, NULL, 0, 0,
                        "the policy, a sampling parameter or a stop string makes no sense");
    }
    if (decode->count == 0) {
        return nst_fail(err, NST_E_ARGUMENT, NULL, NULL, 1, 0, "there is no prompt");
    }
    const uint64_t begin = now(decode);
    int code = run_prompt(&g, err);
    g.start_ns = now(decode);
    g.stats->prompt_ns = g.start_ns - begin;
    g.last.token = decode->tokens[decode->count - 1];
    if (options->max_tokens == 0) {
        stop(&g, NST_STOP_LENGTH);
    }
    while (code == NST_OK && !g.stopped) {
        code = next_tokens(&g, err);
    }
    if (code != NST_OK) {
        /* Rows of tokens that were not finished are forgotten. */
        decode->engine.rewind(decode->engine.context, decode->done);
    }
    g.stats->generate_ns = now(decode) - g.start_ns;
    return code;
}
