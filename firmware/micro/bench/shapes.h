/* The shapes that are measured, and shapes at random. */
#ifndef NESTLING_MICRO_BENCH_SHAPES_H
#define NESTLING_MICRO_BENCH_SHAPES_H

#include "micro/bench/layer.h"

extern const bench_shape bench_named_shapes[];
extern const uint32_t bench_named_count;

/* Small shapes with every combination of what the operators take: strides, dilation, padding,
 * groups, channel multipliers, batches, numbers of channels that divide nothing. */
bench_shape bench_random_shape(uint32_t *random);

#endif
