/* Strict reader of a bundle's section "experts" (SPEC.md, Experts): which layers have experts, and
 * where the bytes of each lie in the sections "experts.0" and "experts.1".
 *
 * The caller owns the bytes, which must stay readable, unchanged, and aligned to 16, while the index
 * is in use. nst_expert_index_open checks every rule; what the getters give is in range then. After
 * that the index is read-only: any number of threads may use it. C11, no heap, no recursion.
 */
#ifndef NESTLING_CORE_EXPERT_INDEX_H
#define NESTLING_CORE_EXPERT_INDEX_H

#include "bundle.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define NST_EXPERTS_MAGIC 0x5854534Eu /* "NSTX" */
#define NST_EXPERTS_VERSION 1u
#define NST_EXPERTS_HEADER_BYTES 64u
#define NST_EXPERT_LAYER_BYTES 64u
#define NST_EXPERT_SLICE_BYTES 16u
#define NST_EXPERT_ALIGNMENT 64u       /* of slices in their sections */
#define NST_EXPERT_ARRAY_ALIGNMENT 16u /* of arrays in a slice, of predictors in the index */

/* Limits of the format. */
#define NST_MAX_EXPERT_SLICES 2u
#define NST_MAX_EXPERT_LAYERS 1024u
#define NST_MAX_EXPERTS 4096u       /* of a layer */
#define NST_MAX_EXPERT_UNITS 65536u /* dim and hidden */

typedef enum nst_expert_format {
    NST_EXPERT_F32 = 0,
    NST_EXPERT_NIBBLES = 1 /* high halves in slice 0, low halves in slice 1 */
} nst_expert_format;

typedef enum nst_expert_activation {
    NST_EXPERT_SILU = 0,
    NST_EXPERT_GELU = 1, /* exact, by erf */
    NST_EXPERT_RELU = 2,
    NST_EXPERT_GELU_TANH = 3
} nst_expert_activation;

/* Flags of a layer. */
#define NST_EXPERT_GATED 1u       /* down(act(gate(x)) * up(x)) instead of down(act(up(x))) */
#define NST_EXPERT_RENORMALISE 2u /* weights of the chosen are divided by their sum */
#define NST_EXPERT_BIASES 4u

/* A layer of experts: what is the same for all of them. */
typedef struct nst_expert_layer {
    uint32_t dim;    /* of the input and the output */
    uint32_t hidden; /* units between */
    uint32_t experts;
    uint32_t top_k;        /* experts that a token goes to */
    uint32_t first_expert; /* number of its first expert in the bundle */
    uint32_t format;       /* an nst_expert_format */
    uint32_t group;        /* weights a scale, along the input of a matrix; 0 for f32 */
    uint32_t activation;   /* an nst_expert_activation */
    uint32_t flags;
    uint32_t predicted_layer; /* NST_NONE: the layer predicts no other one */
    /* f32 [experts of predicted_layer][dim], then f32 [experts of predicted_layer] biases; applied
     * to this layer's input it gives the scores of that layer. Null: none. */
    const float *predictor;
} nst_expert_layer;

/* Where a slice of an expert lies. */
typedef struct nst_expert_slice {
    uint64_t offset; /* in its section */
    uint32_t size;   /* bytes; 0: the expert has no such slice */
    uint32_t crc32;
} nst_expert_slice;

typedef struct nst_expert_index {
    const uint8_t *data;
    uint32_t slices;     /* 1 or 2: sections of bytes */
    uint32_t layers;     /* at least 1 */
    uint32_t experts;    /* of all layers */
    uint32_t slot_bytes; /* the largest slice, rounded up to 64 */
    uint32_t layer_table;
    uint32_t slice_table;
    uint32_t most_experts; /* of the layer that has most */
    uint32_t most_top_k;
} nst_expert_index;

/* Read and check an index of `size` bytes. `section_bytes[i]`: size of the section "experts.i", 0
 * where there is none. NST_E_ARGUMENT (null, or `data` is not aligned to 16), NST_E_TRUNCATED,
 * NST_E_FOREIGN, NST_E_VERSION, NST_E_LIMIT, NST_E_CORRUPT; err->section is "experts", and the
 * message names the layer or the expert where one is at fault. */
int nst_expert_index_open(nst_expert_index *out, const void *data, size_t size,
                          const uint64_t section_bytes[NST_MAX_EXPERT_SLICES], nst_error *err);

/* Layer `layer`; false where it is out of range. */
bool nst_expert_index_layer(const nst_expert_index *index, uint32_t layer, nst_expert_layer *out);

/* A slice of expert `expert` of all; false where one of both is out of range. */
bool nst_expert_index_slice(const nst_expert_index *index, uint32_t expert, uint32_t slice,
                            nst_expert_slice *out);

/* Bytes that a slice of an expert of this layer has, by its shape; 0: it has no such slice. The layer
 * is within the limits. */
uint64_t nst_expert_layer_slice_bytes(const nst_expert_layer *layer, uint32_t slice);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
