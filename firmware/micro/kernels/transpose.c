#include "micro/kernels/transpose.h"

#include <string.h>

#include "micro/kernels/check.h"

static bool check(const void *params, const uint32_t *tensor_bytes, uint32_t scratch_bytes) {
    (void)scratch_bytes;
    const nst_transpose_params *p = params;
    if (p->rank == 0 || p->rank > NST_TRANSPOSE_RANK ||
        (p->element_bytes != 1 && p->element_bytes != 2 && p->element_bytes != 4) ||
        !nst_fits(p->input_shape, p->rank, tensor_bytes[0] / p->element_bytes) ||
        !nst_fits(p->input_shape, p->rank, tensor_bytes[1] / p->element_bytes)) {
        return false;
    }
    uint32_t seen = 0;
    for (uint32_t i = 0; i < p->rank; ++i) {
        if (p->permutation[i] >= p->rank) {
            return false;
        }
        seen |= 1u << p->permutation[i];
    }
    return seen == (1u << p->rank) - 1;
}

static uint32_t scratch_bytes(const void *params) {
    (void)params;
    return 0;
}

const nst_operator nst_operator_transpose = {
    .name = "transpose",
    .params_bytes = sizeof(nst_transpose_params),
    .tensors = 2,
    .check = check,
    .scratch_bytes = scratch_bytes,
    .run = nst_transpose_run,
};

/* The output's dimensions, outermost first, with the distance in bytes that each step moves in the
 * input. Neighbours in the output that are neighbours in the input too are one dimension; the last
 * one has at least one step. */
typedef struct layout {
    uint32_t rank;
    uint32_t sizes[NST_TRANSPOSE_RANK];
    size_t steps[NST_TRANSPOSE_RANK];
} layout;

static layout layout_of(const nst_transpose_params *p) {
    size_t input_steps[NST_TRANSPOSE_RANK];
    size_t step = p->element_bytes;
    for (uint32_t i = p->rank; i-- > 0;) {
        input_steps[i] = step;
        step *= p->input_shape[i];
    }
    layout l = {.rank = 0};
    for (uint32_t i = 0; i < p->rank; ++i) {
        const uint32_t from = p->permutation[i];
        const uint32_t size = p->input_shape[from];
        if (size == 1) {
            continue;
        }
        if (l.rank > 0 && l.steps[l.rank - 1] == input_steps[from] * size) {
            l.sizes[l.rank - 1] *= size;
            l.steps[l.rank - 1] = input_steps[from];
        } else {
            l.sizes[l.rank] = size;
            l.steps[l.rank] = input_steps[from];
            ++l.rank;
        }
    }
    if (l.rank == 0) {
        l = (layout){.rank = 1, .sizes = {1}, .steps = {p->element_bytes}};
    }
    return l;
}

static void gather_bytes(uint8_t *output, const uint8_t *input, uint32_t count, size_t step) {
    for (uint32_t i = 0; i < count; ++i, input += step) {
        output[i] = *input;
    }
}

/* Elements of more than one byte: `bytes` is a constant at each call, so a copy is one load and
 * one store. */
static inline void gather(uint8_t *output, const uint8_t *input, uint32_t count, size_t step,
                          size_t bytes) {
    for (uint32_t i = 0; i < count; ++i, input += step, output += bytes) {
        memcpy(output, input, bytes);
    }
}

void nst_transpose_run(const void *params, void *const *tensors, void *scratch) {
    (void)scratch;
    const nst_transpose_params *p = params;
    const layout l = layout_of(p);
    const uint32_t inner = l.sizes[l.rank - 1];
    const size_t inner_step = l.steps[l.rank - 1];
    const size_t inner_bytes = (size_t)inner * p->element_bytes;
    const uint8_t *input = tensors[0];
    uint8_t *output = tensors[1];
    uint32_t position[NST_TRANSPOSE_RANK] = {0};
    for (;;) {
        if (inner_step == p->element_bytes) {
            memcpy(output, input, inner_bytes);
        } else if (p->element_bytes == 1) {
            gather_bytes(output, input, inner, inner_step);
        } else if (p->element_bytes == 2) {
            gather(output, input, inner, inner_step, 2);
        } else {
            gather(output, input, inner, inner_step, 4);
        }
        output += inner_bytes;
        uint32_t i = l.rank - 1;
        for (;;) { /* the next place, as an odometer counts */
            if (i == 0) {
                return;
            }
            --i;
            input += l.steps[i];
            if (++position[i] < l.sizes[i]) {
                break;
            }
            input -= l.steps[i] * l.sizes[i];
            position[i] = 0;
        }
    }
}
