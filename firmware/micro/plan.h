/* A plan: the operators that compute one stage, with everything resolved but base addresses. SPEC.md, "Plans", says
 * every byte; the toolchain writes them (toolchain/nestling/targets/cortex_m/plan.py).
 *
 * A plan is checked once and then read in place, where it lies in flash. Checking it leaves nothing to be checked
 * while it runs: every operator is linked, its parameters fit its tensors, its tensors lie inside what they are part of.
 */
#ifndef NESTLING_MICRO_PLAN_H
#define NESTLING_MICRO_PLAN_H

#include <stddef.h>

#include "core/error.h"
#include "micro/operator.h"

#define NST_PLAN_VERSION 1u
#define NST_PLAN_ALIGNMENT 16u /* of plans, tensors, scratch memory and parameter records */
#define NST_PLAN_HEADER_BYTES 48u

/* Whose instructions the constants are laid out for. */
typedef enum nst_isa {
    NST_ISA_ANY = 0, /* of an engine: it runs all plans, if slowly; no plan has this */
    NST_ISA_DSP = 1, /* Cortex-M4, M7, M33 */
    NST_ISA_MVE = 2, /* Cortex-M55 */
} nst_isa;

/* What a tensor is part of. */
typedef enum nst_place {
    NST_PLACE_ABSENT = 0, /* an optional constant that is not there */
    NST_PLACE_INPUT = 1,
    NST_PLACE_OUTPUT = 2,
    NST_PLACE_CONSTANT = 3,
    NST_PLACE_ARENA = 4, /* memory that lasts for one call of the plan */
} nst_place;

typedef struct nst_plan_tensor {
    uint32_t place;  /* nst_place */
    uint32_t number; /* of the input, output or constant; 0 otherwise */
    uint32_t offset; /* in it, bytes, a multiple of 16 */
    uint32_t bytes;
} nst_plan_tensor;

typedef struct nst_plan_operator {
    uint32_t number;         /* operators.h */
    uint32_t params_offset;  /* of its parameter record, from the start of the plan */
    uint32_t first_tensor;   /* inputs, constants, the output last */
    uint32_t tensor_count;   /* 1 .. NST_MAX_OPERATOR_TENSORS */
    uint32_t scratch_offset; /* in the arena, a multiple of 16 */
    uint32_t scratch_bytes;
} nst_plan_operator;

/* A plan that was checked. Points into its bytes, which must stay where and as they are. */
typedef struct nst_plan {
    const uint8_t *data;
    uint32_t bytes;
    uint32_t isa; /* nst_isa */
    uint32_t arena_bytes;
    uint32_t input_count;
    uint32_t output_count;
    uint32_t constant_count;
    uint32_t operator_count;
    const uint32_t *input_bytes;    /* [input_count] */
    const uint32_t *output_bytes;   /* [output_count] */
    const uint32_t *constant_bytes; /* [constant_count] */
    const nst_plan_operator *operators;
    const nst_plan_tensor *tensors;
} nst_plan;

/* Check the plan in `bytes` bytes at `data`, which is aligned to 16, and describe it. NST_E_ARGUMENT (null or not
 * aligned), NST_E_FOREIGN (not a plan), NST_E_VERSION, NST_E_TARGET (`isa` is not NST_ISA_ANY and the plan is for
 * another one), NST_E_ENGINE (an operator that this firmware has not), NST_E_CORRUPT (any other broken rule); the
 * message names the operator. */
int nst_plan_open(nst_plan *out, const void *data, size_t bytes, nst_isa isa, nst_error *err);

/* Where the things that a plan works on lie, for one call; all aligned to 16. */
typedef struct nst_plan_memory {
    void *const *inputs;          /* [input_count] */
    void *const *outputs;         /* [output_count], overlapping no input */
    const void *const *constants; /* [constant_count] */
    uint8_t *arena;               /* arena_bytes */
} nst_plan_memory;

/* Run operator `index` of a plan, which must be in range. */
void nst_plan_run_operator(const nst_plan *plan, uint32_t index, const nst_plan_memory *memory);

#endif
