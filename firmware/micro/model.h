/* What the engine keeps about one bundle. Internal to the engine.
 *
 * All of it lies in one half of the engine's state memory: this struct, the reader's index, then the tables. */
#ifndef NESTLING_MICRO_MODEL_H
#define NESTLING_MICRO_MODEL_H

#include "micro/engine.h"

/* A slot has a second buffer where some stage both reads and writes it: such a stage writes the other one. */
typedef struct nst_micro_slot {
    uint32_t bytes;
    uint32_t offset[2]; /* in the arena; equal when there is one buffer */
    uint32_t first;     /* positions between which its bytes matter, both included */
    uint32_t last;
    uint8_t role;  /* nst_role */
    bool two;      /* it has two buffers */
    bool is_read;  /* while a path is laid out: by the stage in question */
    uint8_t which; /* while a path is laid out: the buffer that holds the value */
} nst_micro_slot;

typedef struct nst_micro_stage {
    nst_plan plan;
    const void **constants; /* [plan.constant_count] in the bundle */
    uint32_t *slots;        /* [plan.input_count + plan.output_count] inputs, then outputs */
    uint32_t arena;         /* where the plan's arena lies in ours */
    uint64_t weight_bytes;
    uint64_t calls;
    uint64_t total;
} nst_micro_stage;

/* A stage of a path, with addresses. */
typedef struct nst_micro_step {
    nst_micro_stage *stage;
    void **slots; /* [plan.input_count + plan.output_count] */
} nst_micro_step;

typedef struct nst_micro_path {
    nst_micro_step *steps;
    uint32_t count;
} nst_micro_path;

typedef struct nst_micro_model {
    nst_bundle bundle;
    nst_micro_slot *slots;   /* [slots of the bundle] */
    nst_micro_stage *stages; /* [stages of the bundle] */
    nst_micro_path *paths;   /* [paths of the bundle] */
    nst_micro_path custom;   /* the list of stages that was last selected */
    uint32_t *custom_stages; /* [positions] room for the numbers of a list of stages */
    void **custom_slots;     /* room for its steps' slots */
    const nst_micro_path *selected;
    uint64_t arena_bytes;
    uint64_t weight_bytes; /* of all constants, each byte once */
} nst_micro_model;

/* Bytes that the tables of a bundle take, `index_bytes` for the reader included. */
uint64_t nst_micro_model_bytes(const nst_bundle *bundle, uint64_t index_bytes);

/* Build a model of the bundle of `size` bytes at `data` in `memory`, aligned to 8. */
int nst_micro_model_build(nst_micro_model **out, const nst_micro_config *config,
                          const uint8_t *data, size_t size, uint8_t *memory, size_t memory_bytes,
                          nst_error *err);

/* Lay out a legal list of stages: where each finds its slots. `slots` has room for all of their pointers. */
void nst_micro_path_lay_out(const nst_micro_model *model, uint8_t *arena, const uint32_t *stages,
                            uint32_t count, nst_micro_path *path, void **slots);

/* placement.c: give every buffer of a slot, and the arena of every stage, its place; sets `arena_bytes` and says which
 * stage needs most. */
void nst_micro_place(nst_micro_model *model, uint32_t *out_neediest);

#endif
