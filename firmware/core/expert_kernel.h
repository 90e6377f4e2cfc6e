/* Arithmetic of experts (SPEC.md, Experts): one expert on some of the tokens of a call. Plain C11
 * without libm and heap, for Linux and for microcontrollers; written so that compilers make vectors
 * of it. Any number of threads, each with its own memory.
 */
#ifndef NESTLING_CORE_EXPERT_KERNEL_H
#define NESTLING_CORE_EXPERT_KERNEL_H

#include "expert_index.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* Tokens that are computed together: a row of weights is unpacked once for all of them. */
#define NST_EXPERT_BLOCK 32u

/* What goes into the experts of a layer: `tokens` rows of `dim` numbers, and for nibbles the same
 * quantised, once for all experts of the call. */
typedef struct nst_expert_input {
    const float *x;      /* [tokens][dim] */
    const int16_t *q;    /* [tokens][dim] -127..127; not looked at for f32 */
    const float *scales; /* [tokens][dim / group]; x is about q * scale */
} nst_expert_input;

/* Quantise rows by groups: scale = largest magnitude / 127, q = x / scale, rounded to the nearest,
 * halves to even. `group` divides `width`. q: [rows][width]; scales: [rows][width / group]. */
void nst_expert_quantise(const float *x, uint32_t rows, uint32_t width, uint32_t group, int16_t *q,
                         float *scales);

/* An activation of nst_expert_activation on `count` numbers, in place. Relative errors below 1e-6
 * for silu and gelu by tanh, for exact gelu as well where |x| < 5, beyond with the error of x * x. */
void nst_expert_activate(uint32_t activation, float *x, uint32_t count);

/* Memory that nst_expert_run needs for `count` tokens of this layer, in bytes. */
uint64_t nst_expert_scratch_bytes(const nst_expert_layer *layer, uint32_t count);

/* out[i] = expert(in[tokens[i]]) for i < count; the same bits whichever other tokens there are.
 *
 * `high`, `low`: the bytes of the expert's slices, aligned to 16 and of the size that
 * nst_expert_layer_slice_bytes says; what is in them cannot do harm. `low` is looked at for nibbles
 * only, null: the answer of the high halves alone. `out`: [count][dim]. `scratch`: memory of
 * nst_expert_scratch_bytes, aligned to 16. */
void nst_expert_run(const nst_expert_layer *layer, const void *high, const void *low,
                    const nst_expert_input *in, const uint32_t *tokens, uint32_t count,
                    void *scratch, float *out);

/* Scores that the layer's predictor, which is there, gives the experts of the layer that it is for.
 * `predicted_experts`: of that layer; `x`: [tokens][dim]; `out`: [tokens][predicted_experts]. */
void nst_expert_predict(const nst_expert_layer *layer, uint32_t predicted_experts, const float *x,
                        uint32_t tokens, float *out);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
