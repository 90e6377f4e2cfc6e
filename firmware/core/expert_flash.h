/* Experts of a small device: their bytes stay in flash, or behind whatever `read` reads, and a few of
 * them are kept in RAM. One thread, no heap, no clock: an expert that is missing is read before it is
 * computed. With two slots a layer of any number of experts runs.
 *
 * The same cache (expert_cache.h) and arithmetic (expert_kernel.h) as on Linux, where another thread
 * reads ahead.
 */
#ifndef NESTLING_CORE_EXPERT_FLASH_H
#define NESTLING_CORE_EXPERT_FLASH_H

#include "expert_cache.h"
#include "expert_index.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct nst_expert_flash_config {
    const nst_expert_index *index;       /* opened; it must outlive the experts */
    const nst_expert_eviction *eviction; /* nst_expert_eviction_at */
    uint32_t slots;                      /* slices of experts in RAM; at least index->slices */
    uint32_t tokens;                     /* most of a call; at least 1 */
    /* Copy bytes of the section "experts.`section`": NST_OK, or a code that ends the call. */
    int (*read)(void *context, uint32_t section, uint64_t offset, void *to, uint32_t bytes);
    void *context;
} nst_expert_flash_config;

/* Fill with nst_expert_flash_init; read only, but for nst_expert_cache_reset_counts. */
typedef struct nst_expert_flash {
    nst_expert_flash_config config;
    nst_expert_cache cache;
    uint8_t *slots;       /* [config.slots][index->slot_bytes] */
    float *probabilities; /* [tokens][experts]; one row for the cache behind it */
    float *weights;       /* [tokens][top k] */
    uint32_t *chosen;     /* [tokens][top k] */
    uint32_t *first;      /* [experts + 1] */
    uint32_t *rows;       /* [tokens][top k] */
    uint32_t *places;     /* [tokens][top k] */
    uint32_t *used;       /* [experts] */
    float *results;       /* [tokens][top k][dim] */
    float *scales;        /* [tokens][dim] at most */
    int16_t *quantised;   /* [tokens][dim] */
    void *scratch;        /* of the kernel */
} nst_expert_flash;

/* RAM that the experts need, in bytes; 0 where the configuration makes no sense. */
uint64_t nst_expert_flash_bytes(const nst_expert_flash_config *config);

/* Start with nothing in RAM. `memory`: aligned to 16; it must outlive the experts.
 * NST_OK, NST_E_ARGUMENT (null, misaligned, a number out of its range), NST_E_LIMIT (too few bytes). */
int nst_expert_flash_init(nst_expert_flash *experts, const nst_expert_flash_config *config,
                          void *memory, size_t bytes, nst_error *err);

/* A request starts anew, for policies that keep account of requests. */
void nst_expert_flash_begin_request(nst_expert_flash *experts, uint32_t request);

/* Run a layer of experts: out[t] is the weighted sum of the experts that token t's scores choose.
 * hidden: [tokens][dim]; scores: [tokens][experts of the layer]; out: [tokens][dim]. `bits`: 8, or 4
 * for the answer of the first slices alone; layers of f32 take either.
 * NST_OK, NST_E_ARGUMENT, NST_E_HASH (bytes that were read are not those that were written), or what
 * `read` said; the experts in RAM stay usable. */
int nst_expert_flash_run(nst_expert_flash *experts, uint32_t request, uint32_t layer,
                         const float *hidden, const float *scores, uint32_t tokens, uint32_t bits,
                         float *out, nst_error *err);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
