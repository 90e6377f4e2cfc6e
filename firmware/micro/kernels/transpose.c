#include "micro/kernels/transpose.h"

#include <string.h>

#include "micro/kernels/check.h"
#include "micro/kernels/transpose_copy.h"
#include "micro/kernels/variant.h"

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

static nst_transpose_layout layout_of(const nst_transpose_params *p) {
    size_t input_steps[NST_TRANSPOSE_RANK];
    size_t step = p->element_bytes;
    for (uint32_t i = p->rank; i-- > 0;) {
        input_steps[i] = step;
        step *= p->input_shape[i];
    }
    nst_transpose_layout l = {.rank = 0};
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
        l = (nst_transpose_layout){.rank = 1, .sizes = {1}, .steps = {p->element_bytes}};
    }
    return l;
}

static inline void gather(uint8_t *output, const uint8_t *input, uint32_t count, size_t step,
                          size_t bytes) {
    for (uint32_t i = 0; i < count; ++i, input += step, output += bytes) {
        memcpy(output, input, bytes);
    }
}

/* `bytes` is a constant in each of the calls, so that a copy is one load and one store. */
static void copy_portable(uint8_t *output, const uint8_t *input, uint32_t count, size_t step,
                          uint32_t bytes) {
    if (step == bytes) {
        memcpy(output, input, (size_t)count * bytes);
    } else if (bytes == 1) {
        gather(output, input, count, step, 1);
    } else if (bytes == 2) {
        gather(output, input, count, step, 2);
    } else {
        gather(output, input, count, step, 4);
    }
}

void nst_transpose_with(const nst_transpose_params *p, void *const *tensors,
                        nst_transpose_copy copy) {
    const nst_transpose_layout l = layout_of(p);
    const uint32_t inner = l.sizes[l.rank - 1];
    const size_t inner_step = l.steps[l.rank - 1];
    const uint8_t *input = tensors[0];
    uint8_t *output = tensors[1];
    uint32_t position[NST_TRANSPOSE_RANK] = {0};
    for (;;) {
        copy(output, input, inner, inner_step, p->element_bytes);
        output += (size_t)inner * p->element_bytes;
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

void nst_transpose_portable(const void *params, void *const *tensors, void *scratch) {
    (void)scratch;
    nst_transpose_with(params, tensors, copy_portable);
}

#if !NST_MVE

void nst_transpose_run(const void *params, void *const *tensors, void *scratch) {
    nst_transpose_portable(params, tensors, scratch);
}

#endif
