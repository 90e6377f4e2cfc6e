/* The decode loop: prompt in, tokens out, each made by the path that a policy picks.
 *
 * The loop knows no engine: it asks for logits through a table of functions, and for the next path
 * through another one (token_policy.h). Plain C11, no heap: the caller gives room for the tokens.
 *
 * What holds after every call, an error in the midst of one included: `tokens[0..count)` is the
 * conversation, and the engine holds what it computed for the first `done` of them. So a generation
 * that was cancelled, or failed, or ended on a stop, can go on.
 */
#ifndef NESTLING_CORE_DECODE_H
#define NESTLING_CORE_DECODE_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "sampler.h"
#include "stop.h"
#include "token_policy.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* How a token is computed, beside its number and the path. All zeros: as it is. */
typedef struct nst_token_feed {
    uint32_t steering;    /* vectors that are added to the residual stream, a bit each */
    uint32_t routed;      /* 1: the policy's `route` is asked */
    uint32_t soft_tokens; /* 0: the token itself; else their mean in its place */
    nst_candidate soft[NST_SOFT_MAX]; /* likeliest first; weights with a sum of 1 */
} nst_token_feed;

/* What the loop asks of an engine. */
typedef struct nst_decode_engine {
    void *context;
    uint32_t vocabulary;
    uint32_t paths;         /* that a policy may name */
    uint32_t limit;         /* tokens that a conversation may have */
    uint32_t verify_tokens; /* most tokens of one run that gives all logits; 0: there is none */
    /* Compute `count` >= 1 tokens behind the first `position` ones with a path; whatever it lacks of
     * those before is computed first. *logits: of the last token, or with `all` of each, vocabulary
     * numbers for one; they stay until the next call. */
    int (*run)(void *context, uint32_t path, const uint32_t *tokens, uint32_t position,
               uint32_t count, bool all, const float **logits, nst_error *err);
    /* Forget all but the first `count` tokens. */
    void (*rewind)(void *context, uint32_t count);
    uint64_t (*now_ns)(void *context);
    /* How every run from now on computes the token at `position`; whatever was said before is
     * forgotten, and this once the engine goes back to `position` or before. Null: tokens are
     * computed as they are. */
    int (*feed)(void *context, uint32_t position, const nst_token_feed *feed, nst_error *err);
} nst_decode_engine;

typedef enum nst_stop_reason {
    NST_STOP_LENGTH = 0,  /* max_tokens */
    NST_STOP_TOKEN = 1,   /* one of stop_tokens; it is in the conversation */
    NST_STOP_TEXT = 2,    /* the text ends with one of the stop strings */
    NST_STOP_CALLER = 3,  /* the callback said so */
    NST_STOP_CONTEXT = 4, /* the context is full */
    NST_STOP_ERROR = 5    /* see the error */
} nst_stop_reason;

/* A token that was just made. */
typedef struct nst_token {
    uint32_t token;
    uint32_t path;            /* whose logits it was drawn from */
    uint32_t drafted;         /* 1: a draft that was verified */
    uint32_t soft_tokens;     /* whose mean was fed before it; 0: the token before itself */
    nst_logit_signals logits; /* that it was drawn from */
    uint64_t token_ns;        /* a verified run's time is shared by its tokens */
} nst_token;

/* Return 0 to go on. May be null. */
typedef int (*nst_on_token)(void *user, const nst_token *token);

typedef struct nst_generate_options {
    uint32_t max_tokens;
    uint32_t
        prompt_path; /* that computes the prompt but for its last token; NST_NO_PATH: largest */
    nst_sampling sampling;
    const uint32_t *stop_tokens; /* may be null */
    uint32_t stop_token_count;
    uint32_t
        prompt_steering; /* vectors added to the prompt's stream, but for its last token; bits */
    const nst_stop_text *stop; /* stop strings; may be null, see stop.h */
} nst_generate_options;

typedef struct nst_generate_stats {
    uint32_t generated;
    uint32_t reason;        /* an nst_stop_reason */
    uint32_t prompt_tokens; /* that had to be computed first */
    uint32_t switches;      /* tokens made by another path than the one before */
    uint32_t drafted;       /* tokens that were drafted, */
    uint32_t accepted;      /* and those of them that were right */
    uint32_t second_runs;   /* tokens for which a path was tried that was not sure */
    uint32_t reserved;      /* zero */
    uint64_t prompt_ns;
    uint64_t generate_ns;
} nst_generate_stats;

typedef struct nst_decode {
    nst_decode_engine engine;
    uint32_t *tokens;          /* [engine.limit], the caller's */
    nst_candidate *candidates; /* [engine.vocabulary], the caller's */
    uint32_t count;
    uint32_t done;
} nst_decode;

/* Start with no tokens. */
void nst_decode_init(nst_decode *decode, const nst_decode_engine *engine, uint32_t *tokens,
                     nst_candidate *candidates);

/* Put tokens at the end of the conversation; computes nothing. NST_E_LIMIT: they do not all fit, and
 * none was taken. NST_E_ARGUMENT: not a token of the vocabulary. */
int nst_decode_append(nst_decode *decode, const uint32_t *tokens, uint32_t count, nst_error *err);

/* Forget all but the first `count` tokens. NST_E_ARGUMENT: there are fewer. */
int nst_decode_rewind(nst_decode *decode, uint32_t count, nst_error *err);

/* Make tokens until a reason to stop. `stats` (may be null) is filled in every case. The policy and
 * what it points to must stay until this returns. A last token whose feed was soft, but which was not
 * computed before the end, is fed as itself by the next generation.
 * NST_E_ARGUMENT: no tokens yet, a sampling parameter out of its range, drafts that are not greedy,
 * or a choice that makes no sense. NST_E_PATH: the policy named a path, or a level of a layer, that is
 * not there. NST_E_ENGINE: logits that are not
 * finite. NST_E_CANCELLED and others: from the engine. A context that fills up ends the generation
 * with NST_E_LIMIT behind the tokens that fit. */
int nst_decode_generate(nst_decode *decode, const nst_generate_options *options,
                        const nst_token_policy *policy, nst_on_token on_token, void *user,
                        nst_generate_stats *stats, nst_error *err);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
