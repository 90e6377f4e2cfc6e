/* nestling, many conversations: their caches in a budget of memory, the others in files.
 *
 * Part of nestling.h, which includes it and whose rules hold here too. A pool belongs to a model and
 * makes decoders, which are used as any other; what their caches hold is in memory while they
 * generate. When the budget is full, conversations that are not generating are swapped out, least
 * recently used first, each to a file of its own; the next use reads them again while the first
 * layers already compute. Beginnings that several conversations have in common, computed by the same
 * path, are kept once, and a conversation that begins like another one does not compute that again.
 *
 *     nst_pool_options options;
 *     nst_pool_options_default(&options);
 *     options.budget_bytes = 64 << 20;
 *     nst_pool *pool = NULL;
 *     nst_decoder *decoder = NULL;
 *     nst_pool_create(model, &options, &pool, &err);
 *     nst_pool_decoder(pool, &decoder, &err);
 *
 * Decoders of one pool may be used by several threads at once, each decoder by one. */
#ifndef NESTLING_POOL_H
#define NESTLING_POOL_H

#include "nestling_decoder.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nst_pool nst_pool;

/* Fill with nst_pool_options_default and change what you need. */
typedef struct nst_pool_options {
    uint64_t struct_bytes; /* sizeof(nst_pool_options) */
    /* Memory for the rows of all caches; holds at every moment. Counted in whole blocks, see
     * nst_pool_state.block_bytes. Not counted: what a decoder has beside its caches. */
    uint64_t budget_bytes;
    /* Folder for the files of conversations that are swapped out: whoever can read them can read
     * what was said. The pool makes a folder of its own in it, open to its user alone, and removes
     * it when it is destroyed. Null (default): TMPDIR, or /tmp. */
    const char *folder;
    /* Not 0 (default 1): keep common beginnings once. */
    uint8_t share;
    uint8_t reserved[7]; /* zero */
} nst_pool_options;

/* No budget: it must be given. */
NST_API void nst_pool_options_default(nst_pool_options *out);

/* NST_E_PATH: the bundle holds no decoder; NST_E_BUDGET: less than two blocks; NST_E_IO: the folder;
 * NST_E_NO_MEMORY. */
NST_API int nst_pool_create(nst_model *model, const nst_pool_options *options, nst_pool **out,
                            nst_error *err);

/* NST_E_STATE: a decoder of it still exists. A null pool is NST_OK. */
NST_API int nst_pool_destroy(nst_pool *pool, nst_error *err);

/* A decoder whose caches belong to the pool; nst_decoder_destroy ends it. As nst_decoder_create.
 *
 * Functions of it that compute (nst_decoder_generate, nst_decoder_logits) have two errors more.
 * NST_E_BUDGET: what generates now leaves too little memory; nothing is lost. NST_E_STATE: what was
 * swapped out cannot be read, or others cannot be swapped out; the message says which file and why.
 * Where rows of this conversation are lost, no other one is concerned, its tokens stay, and the next
 * call computes their rows anew. */
NST_API int nst_pool_decoder(nst_pool *pool, nst_decoder **out, nst_error *err);

/* Free the memory of a conversation's caches now. NST_E_ARGUMENT: not of a pool; NST_E_STATE: the
 * file cannot be written, and the rows stay in memory. */
NST_API int nst_decoder_swap_out(nst_decoder *decoder, nst_error *err);

/* Begin to read a conversation that will be used soon; returns at once. NST_E_BUDGET. What cannot be
 * read is the error of the next use. */
NST_API int nst_decoder_swap_in(nst_decoder *decoder, nst_error *err);

typedef struct nst_pool_state {
    uint64_t budget_bytes; /* whole blocks */
    uint64_t used_bytes;   /* of blocks in memory, shared ones once */
    uint64_t peak_bytes;   /* highest used_bytes so far */
    uint64_t shared_bytes; /* of blocks that lie in shared memory, in used or kept for later */
    uint64_t away_bytes;   /* of blocks that are in files alone, counted for each conversation */
    uint64_t block_bytes;
    uint32_t block_tokens;
    uint32_t conversations;
    uint64_t swap_outs; /* conversations that left memory so far, */
    uint64_t swap_ins;  /* and that came back */
    uint64_t written_bytes;
    uint64_t read_bytes;
    uint64_t writes; /* transfers */
    uint64_t reads;
    uint64_t adopted_tokens; /* that were not computed, since others had them */
} nst_pool_state;

NST_API int nst_pool_get_state(nst_pool *pool, nst_pool_state *out, nst_error *err);

/* Where the blocks of one conversation are. */
typedef struct nst_pool_cache {
    uint32_t own_blocks;
    uint32_t shared_blocks; /* in memory once for all that have them */
    uint32_t away_blocks;
    uint32_t saved_blocks; /* whose content is in its file, in memory or not */
} nst_pool_cache;

/* NST_E_ARGUMENT: not of a pool. */
NST_API int nst_decoder_cache(nst_decoder *decoder, nst_pool_cache *out, nst_error *err);

#ifdef __cplusplus
}
#endif
#endif
