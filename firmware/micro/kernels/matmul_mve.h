/* A matrix of weights (NST_LAYOUT_MVE) times columns of input, two columns at a time: the inner
 * loops of conv2d and linear on MVE. Written in assembly (matmul_mve.S): eight accumulators in
 * core registers leave none over for a compiler. */
#ifndef NESTLING_MICRO_KERNELS_MATMUL_MVE_H
#define NESTLING_MICRO_KERNELS_MATMUL_MVE_H

#include <stdbool.h>
#include <stdint.h>

#include "micro/kernels/layout.h"
#include "micro/kernels/requantize.h"
#include "micro/kernels/variant.h"

/* A strip of equally spaced pairs of columns. A column is `runs` pieces of `run_vectors` times
 * 16 taps. The order of fields is known to matmul_mve.S. */
typedef struct nst_matmul_strip {
    const int8_t *column0; /* first pair; read up to run_vectors * 16 bytes for each run */
    const int8_t *column1;
    uint32_t run_vectors;
    uint32_t runs;
    uint32_t
        run_step; /* bytes from the end of a padded run to the start of the next, modulo 2^32 */
    const int8_t *weights;
    const int32_t *channels;
    uint32_t rows;           /* output channels */
    int8_t *output0;         /* [rows] of column 0 of the first pair */
    uint32_t output1_offset; /* column 1's, in bytes; at most NST_MATMUL_MVE_FARTHEST */
    uint32_t pairs;          /* at least 1 */
    uint32_t column_step;    /* bytes from one pair to the next */
    uint32_t output_step;
    int32_t zero_point; /* of the output */
    int32_t low;        /* activation */
    int32_t high;
    uint32_t scaling; /* nst_scaling */
} nst_matmul_strip;

void nst_matmul_mve_pairs(const nst_matmul_strip *strip);

/* The same for column 0 of the first pair alone. Only for one run. */
void nst_matmul_mve_single(const nst_matmul_strip *strip);

/* Most rows, and how far apart the outputs of two columns may lie: both are reckoned with in 16
 * bits. */
#define NST_MATMUL_MVE_FARTHEST 32760u

/* Whether this build multiplies by a matrix of `rows` rows in this layout. With vectors that is their
 * own layout, in which every plan for such a core has its matrices; otherwise it is any. */
static inline bool nst_matmul_knows(uint32_t layout, uint32_t rows) {
    return NST_MVE ? layout == NST_LAYOUT_MVE && rows <= NST_MATMUL_MVE_FARTHEST
                   : nst_layout_is_known(layout);
}

/* Columns that are gathered one by one, in scratch memory: they wait for a second one. */
typedef struct nst_matmul_queue {
    nst_matmul_strip strip; /* of whole columns: one run */
    int8_t *slots;          /* [2][column_bytes] */
    uint32_t column_bytes;
    int8_t *waiting; /* output of the column in slot 0; null when there is none */
} nst_matmul_queue;

/* Where to put the next column. */
static inline int8_t *nst_matmul_queue_slot(const nst_matmul_queue *queue) {
    return queue->slots + (queue->waiting != 0 ? queue->column_bytes : 0);
}

static inline void nst_matmul_queue_single(nst_matmul_queue *queue, const int8_t *column,
                                           int8_t *output) {
    queue->strip.column0 = column;
    queue->strip.output0 = output;
    nst_matmul_mve_single(&queue->strip);
}

/* The slot was filled; its results go to `output`, behind those of the column that waits. */
static inline void nst_matmul_queue_push(nst_matmul_queue *queue, int8_t *output) {
    if (queue->waiting == 0) {
        queue->waiting = output;
        return;
    }
    const int8_t *second = queue->slots + queue->column_bytes;
    const uint32_t apart = (uint32_t)(output - queue->waiting);
    if (apart > NST_MATMUL_MVE_FARTHEST) {
        nst_matmul_queue_single(queue, queue->slots, queue->waiting);
        nst_matmul_queue_single(queue, second, output);
    } else {
        queue->strip.column0 = queue->slots;
        queue->strip.column1 = second;
        queue->strip.output0 = queue->waiting;
        queue->strip.output1_offset = apart;
        nst_matmul_mve_pairs(&queue->strip);
    }
    queue->waiting = 0;
}

/* Compute what still waits. */
static inline void nst_matmul_queue_flush(nst_matmul_queue *queue) {
    if (queue->waiting != 0) {
        nst_matmul_queue_single(queue, queue->slots, queue->waiting);
        queue->waiting = 0;
    }
}

#endif
