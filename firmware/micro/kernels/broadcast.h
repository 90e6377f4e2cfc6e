/* Operators of two operands, one of which may be shorter and is then repeated: what is allowed,
 * and the walk over runs in which neither starts again. */
#ifndef NESTLING_MICRO_KERNELS_BROADCAST_H
#define NESTLING_MICRO_KERNELS_BROADCAST_H

#include <stdbool.h>
#include <stdint.h>

/* tensor_bytes: of self, other, output, all int8. */
static inline bool nst_broadcast_ok(uint32_t elements, uint32_t self_elements,
                                    uint32_t other_elements, const uint32_t *tensor_bytes) {
    return self_elements != 0 && other_elements != 0 && elements % self_elements == 0 &&
           elements % other_elements == 0 && elements != 0 &&
           (self_elements == elements || other_elements == elements) &&
           self_elements <= tensor_bytes[0] && other_elements <= tensor_bytes[1] &&
           elements <= tensor_bytes[2];
}

typedef struct nst_broadcast {
    uint32_t elements;
    uint32_t count; /* of the run: the length of the shorter operand */
    uint32_t self;  /* where the run begins in each tensor */
    uint32_t other;
    uint32_t output;
    uint32_t self_step;
    uint32_t other_step;
} nst_broadcast;

static inline nst_broadcast nst_broadcast_begin(uint32_t elements, uint32_t self_elements,
                                                uint32_t other_elements) {
    const uint32_t count = self_elements < other_elements ? self_elements : other_elements;
    return (nst_broadcast){
        .elements = elements,
        .count = count,
        .self_step = self_elements == elements ? count : 0,
        .other_step = other_elements == elements ? count : 0,
    };
}

/* False after the last run. */
static inline bool nst_broadcast_next(nst_broadcast *walk) {
    walk->output += walk->count;
    walk->self += walk->self_step;
    walk->other += walk->other_step;
    return walk->output < walk->elements;
}

#endif
