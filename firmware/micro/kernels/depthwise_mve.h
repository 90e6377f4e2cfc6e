/* The inner loops of depthwise on MVE, in assembly (depthwise_mve.S): all channels of one or
 * several output positions, from pointers to their taps. */
#ifndef NESTLING_MICRO_KERNELS_DEPTHWISE_MVE_H
#define NESTLING_MICRO_KERNELS_DEPTHWISE_MVE_H

#include <stdint.h>

#include "micro/kernels/depthwise.h"

/* Whether neighbouring positions, 2 of 8 channels or 4 of 4, are computed as one of sixteen. Their
 * constants are then repeated in scratch memory, in place of the pointers to taps. */
static inline bool nst_depthwise_is_widened(const nst_depthwise_params *p) {
    return p->kernel_height == 3 && p->kernel_width == 3 && p->stride_width == 1 &&
           (p->input_channels == 4 || p->input_channels == 8);
}

/* Where the table of channels lies behind the weights, and the size of both. */
#define NST_DEPTHWISE_WIDE_TABLE 144u
#define NST_DEPTHWISE_WIDE_BYTES 336u

/* What all positions share. The order of fields is known to depthwise_mve.S. */
typedef struct nst_depthwise_job {
    const int8_t *weights;   /* NST_LAYOUT_MVE */
    const int32_t *channels; /* NST_LAYOUT_MVE */
    uint32_t blocks;         /* whole sixteens of channels */
    uint32_t tail;           /* channels that are left */
    int32_t zero_point;      /* of the output */
    int32_t low;             /* activation */
    int32_t high;
    uint32_t scaling; /* nst_scaling */
} nst_depthwise_job;

/* Positions of a 3 x 3 kernel along a row whose taps lie in one way to the edges of the image. */
typedef struct nst_depthwise_strip {
    const int8_t *taps[9]; /* of the first position, channel 0 */
    /* For each kernel row: bytes from one position to the next, less 16 * (blocks + 1 if there is
     * a tail), modulo 2^32. */
    uint32_t steps[3];
    uint32_t steps_any; /* 0 when all three are 0 */
    uint32_t positions; /* at least 1 */
    int8_t *output;
    uint32_t down[9]; /* bytes from each tap to that of the next row of output; for the caller */
} nst_depthwise_strip;

void nst_depthwise_mve_3x3(const nst_depthwise_job *job, const nst_depthwise_strip *strips,
                           uint32_t count);

/* One position of any kernel. */
void nst_depthwise_mve_any(const nst_depthwise_job *job, const int8_t *const *taps, uint32_t count,
                           int8_t *output);

#endif
