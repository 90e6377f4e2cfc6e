/* nestling, generating: language models whose every token any path may make.
 *
 * Part of nestling.h, which includes it and whose rules hold here too. A decoder is one
 * conversation: its tokens and the caches of all layers, which all paths share. Any path may make
 * any token. A decoder belongs to one thread at a time, except nst_decoder_cancel; any number of
 * them may work on one model. A minimal use, bytes as tokens:
 *
 *     nst_decoder *decoder = NULL;
 *     nst_fixed_policy small = {0};
 *     const nst_token_policy policy = nst_fixed_policy_use(&small);
 *     const nst_generate_options options = {.max_tokens = 100, .prompt_path = NST_NO_PATH};
 *     nst_decoder_create(model, &decoder, &err);
 *     nst_decoder_append(decoder, prompt, prompt_count, &err);
 *     nst_decoder_generate(decoder, &options, &policy, on_token, NULL, NULL, &err);
 *     nst_decoder_destroy(decoder);
 *
 * Policies of core/token_policy.h: one path, a rate, entropy adaptive decoding, confidence exit,
 * self-speculation; or one of your own. Around any of them: steering, soft thinking, modes of thinking
 * and answering; and routers, which pick the width of every layer. Those that look between the layers
 * (steering, soft steps, routers) need paths that are chains of a stage or more a layer, as
 * export_decoder makes them: others are refused with NST_E_PATH when it comes to a token that needs it. */
#ifndef NESTLING_DECODER_H
#define NESTLING_DECODER_H

#include "core/decode.h"      /* nst_generate_options, nst_token: what generating gives and takes */
#include "core/mode_policy.h" /* nst_mode_policy: thinking with a budget, then answering */
#include "core/route_policy.h" /* nst_route_policy, nst_layer_route_policy: a width for each layer */
#include "core/sampler.h"      /* nst_sampling: temperature, top-k, top-p */
#include "core/soft_policy.h"  /* nst_soft_policy: steps that feed a mean of embeddings */
#include "core/steering_policy.h" /* nst_steering_policy: which tokens are steered */
#include "core/stop.h"            /* nst_stop_text: stop strings */
#include "core/token_policy.h"    /* nst_token_policy: which path makes the next token; one's own */
#include "nestling.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nst_decoder nst_decoder;

typedef struct nst_decoder_info {
    uint32_t paths; /* small to large */
    uint32_t vocabulary;
    uint32_t context_tokens; /* most tokens of a conversation */
    uint32_t verify_tokens;  /* best length of a draft; 0: the bundle cannot verify drafts */
    uint32_t layers;
    uint32_t stream_dim; /* numbers of the residual stream; 0: it is not of floats, see above */
} nst_decoder_info;

/* NST_E_PATH: the bundle holds no decoder; NST_E_NO_MEMORY. */
NST_API int nst_decoder_create(nst_model *model, nst_decoder **out, nst_error *err);

/* A null decoder is fine. */
NST_API void nst_decoder_destroy(nst_decoder *decoder);

NST_API int nst_decoder_describe(const nst_decoder *decoder, nst_decoder_info *out, nst_error *err);

/* Name of a path, or null. */
NST_API const char *nst_decoder_path_name(const nst_decoder *decoder, uint32_t path);

/* What becomes of the rows that one path has written when another one goes on from there. */
typedef enum nst_state_rule {
    /* They stay: for paths of the same layers, whatever their widths. Free; an approximation. */
    NST_RULE_KEEP = 0,
    /* They are computed anew by the other path, all in as few runs as possible, when it runs next.
     * Where both share their first layers, the rest goes on from what the exit has kept. Exact. */
    NST_RULE_RECOMPUTE = 1,
    /* The first path also fills the caches of the layers that it leaves out, from the stream at its
     * exit (CALM, arXiv:2207.07061). Cheap; an approximation. */
    NST_RULE_PROPAGATE = 2
} nst_state_rule;

/* At first KEEP wherever `from` fills all caches that `to` reads, RECOMPUTE elsewhere. NST_E_PATH:
 * not possible for this pair; NST_E_NOT_FOUND: no such path. */
NST_API int nst_decoder_set_rule(nst_decoder *decoder, uint32_t from, uint32_t to, uint32_t rule,
                                 nst_error *err);
NST_API int nst_decoder_rule(const nst_decoder *decoder, uint32_t from, uint32_t to,
                             uint32_t *out_rule, nst_error *err);

/* Load every stage of a path, so that the first token that it makes need not wait. */
NST_API int nst_decoder_load(nst_decoder *decoder, uint32_t path, nst_error *err);

/* Say what a vector of steering is: `dim` numbers (nst_decoder_info.stream_dim), copied, added to the
 * residual stream at the input of a layer, counted from 0, for the tokens whose nst_token_choice or
 * options have bit `index`, 0 to 31. Null takes it away. A token keeps its bits: computed anew by
 * another path, it gets the vectors of that time again. Layers that a token leaves out add nothing.
 * May be called by callbacks of a generation; it holds from the next token on. A choice with a bit
 * that has no vector ends the generation with NST_E_NOT_FOUND. NST_E_LIMIT, NST_E_NOT_FOUND: no such
 * index, layer; NST_E_ARGUMENT: another number of numbers, or one that is not finite. */
NST_API int nst_decoder_set_steering(nst_decoder *decoder, uint32_t index, uint32_t layer,
                                     const float *vector, uint32_t dim, nst_error *err);

/* Put tokens at the end of the conversation; they are computed when they are needed. NST_E_LIMIT: no
 * room for all of them, none was taken; NST_E_ARGUMENT: not a token. */
NST_API int nst_decoder_append(nst_decoder *decoder, const uint32_t *tokens, uint32_t count,
                               nst_error *err);

/* Forget all but the first `count` tokens; what is computed of those stays. */
NST_API int nst_decoder_rewind(nst_decoder *decoder, uint32_t count, nst_error *err);

/* Copy the conversation; at most `capacity` tokens, *out_count is how many there are. */
NST_API int nst_decoder_tokens(const nst_decoder *decoder, uint32_t *out_tokens, uint32_t capacity,
                               uint32_t *out_count, nst_error *err);

/* The logits behind the last token, by a path: vocabulary numbers, until the next call. NST_E_STATE:
 * there are no tokens. */
NST_API int nst_decoder_logits(nst_decoder *decoder, uint32_t path, const float **out,
                               nst_error *err);

/* Generate: see nst_decode_generate in core/decode.h for what it does, its errors and what holds
 * afterwards. Allocates nothing once the paths are loaded, except when a decoder first steers, takes
 * soft steps or routes, and when a generation that routes begins, which loads and pins the stages
 * that the router may choose. NST_E_STATE: called by a callback of a generation of this decoder, which
 * may not append, rewind or ask for logits either. */
NST_API int nst_decoder_generate(nst_decoder *decoder, const nst_generate_options *options,
                                 const nst_token_policy *policy, nst_on_token on_token, void *user,
                                 nst_generate_stats *stats, nst_error *err);

/* End the generation in progress, or the next one, with NST_E_CANCELLED at the next border between
 * two stages. From any thread. The tokens that were made stay. */
NST_API void nst_decoder_cancel(nst_decoder *decoder);

typedef struct nst_decoder_state {
    uint32_t tokens;          /* of the conversation */
    uint32_t computed_tokens; /* whose rows are there */
    uint64_t cache_bytes;     /* of all caches when full; pages come as they are used */
    uint64_t token_bytes;     /* of one token's rows */
    uint64_t computed;        /* tokens that runs have computed so far, */
    uint64_t recomputed;      /* those among them that had been computed by another path, */
    uint64_t resumed;         /* and those that went on from what an exit had kept */
    uint64_t macs;            /* multiply-accumulates of all stages that have run */
} nst_decoder_state;

NST_API int nst_decoder_get_state(const nst_decoder *decoder, nst_decoder_state *out,
                                  nst_error *err);

#ifdef __cplusplus
}
#endif
#endif
