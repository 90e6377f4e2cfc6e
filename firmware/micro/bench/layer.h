/* A layer with random contents, in two forms: plain for the portable kernel, packed for the fast
 * one. */
#ifndef NESTLING_MICRO_BENCH_LAYER_H
#define NESTLING_MICRO_BENCH_LAYER_H

#include "micro/kernels/conv2d.h"
#include "micro/kernels/depthwise.h"
#include "micro/kernels/linear.h"

typedef enum bench_kind { BENCH_CONV2D, BENCH_DEPTHWISE, BENCH_LINEAR } bench_kind;

typedef union bench_params {
    nst_conv2d_params conv2d;
    nst_depthwise_params depthwise;
    nst_linear_params linear;
} bench_params;

/* A shape: parameters without layout, runs and scaling. */
typedef struct bench_shape {
    const char *name;
    bench_kind kind;
    bench_params params;
} bench_shape;

/* Where a layer's tensors lie. `edge` is the end of memory: reads past it fault. */
typedef struct bench_memory {
    uint8_t *begin;
    uint8_t *edge;
} bench_memory;

/* How scales are drawn: as nearly all layers have them, or any, shifts to the left too. */
typedef enum bench_scales { BENCH_SCALES_USUAL, BENCH_SCALES_ANY } bench_scales;

typedef struct bench_result {
    uint64_t macs;       /* nominal: taps in the padding count */
    uint64_t fast;       /* instructions */
    uint64_t portable;   /* instructions, plain layout */
    uint32_t mismatches; /* bytes, guards included; UINT32_MAX: refused by its own check */
} bench_result;

/* Fill and run the layer in both forms. `random` is the state of the generator. `input_at_edge`:
 * the input ends at the end of memory, otherwise the weights do. */
bench_result bench_run_layer(const bench_shape *shape, bench_memory memory, bench_scales scales,
                             bool input_at_edge, uint32_t *random);

/* The next 32 random bits. */
uint32_t bench_random(uint32_t *state);

#endif
