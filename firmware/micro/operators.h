/* All operators, by number. Numbers are part of the format of plans: one never changes its
 * meaning, and a new operator gets a new number.
 *
 * An operator is in a firmware when its kernel is linked: the table refers to kernels weakly, so a
 * firmware that links only some of them, or none, is complete all the same and refuses plans that
 * ask for the others. (Weak references pull nothing out of an archive: link kernels as objects.)
 *
 * Views (reshape, squeeze, flatten, a permutation that moves no byte) are no operators: a plan
 * gives the result the address of the operand. */
#ifndef NESTLING_MICRO_OPERATORS_H
#define NESTLING_MICRO_OPERATORS_H

#include "micro/operator.h"

/* X(number, identifier of the kernel) */
#define NST_OPERATORS(X) \
    X(1, conv2d)         \
    X(2, depthwise)      \
    X(3, linear)         \
    X(4, batch_matmul)   \
    X(5, add)            \
    X(6, mul)            \
    X(7, div)            \
    X(8, minimum)        \
    X(9, maximum)        \
    X(10, activation)    \
    X(11, softmax)       \
    X(12, layer_norm)    \
    X(13, avg_pool)      \
    X(14, max_pool)      \
    X(15, pad)           \
    X(16, transpose)     \
    X(17, quantize)      \
    X(18, dequantize)

#define NST_OPERATOR_COUNT 19u /* one more than the highest number: 0 is no operator */

/* The operator of a number; null where there is none or this firmware was linked without it. */
const nst_operator *nst_find_operator(uint32_t number);

#endif
