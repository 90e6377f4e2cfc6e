/* minimum and maximum with MVE: sixteen values at a time. */
#include "micro/kernels/minimum_maximum.h"
#include "micro/kernels/variant.h"

#if NST_MVE

#include "micro/kernels/broadcast.h"

#define NST_RUN_OF(name, instruction)                                                           \
    static void name(const int8_t *self, const int8_t *other, int8_t *output, uint32_t count) { \
        __asm__ volatile(                                                                       \
            "   wlstp.8 lr, %[count], 2f\n"                                                     \
            "1: vldrb.8 q0, [%[self]], #16\n"                                                   \
            "   vldrb.8 q1, [%[other]], #16\n"                                                  \
            "   " instruction                                                                   \
            " q0, q0, q1\n"                                                                     \
            "   vstrb.8 q0, [%[output]], #16\n"                                                 \
            "   letp lr, 1b\n"                                                                  \
            "2:\n"                                                                              \
            : [self] "+r"(self), [other] "+r"(other), [output] "+r"(output)                     \
            : [count] "r"(count)                                                                \
            : "q0", "q1", "lr", "memory");                                                      \
    }

NST_RUN_OF(minimum_of, "vmin.s8")
NST_RUN_OF(maximum_of, "vmax.s8")

void nst_minimum_run(const void *params, void *const *tensors, void *scratch) {
    (void)scratch;
    const nst_minimum_maximum_params *p = params;
    nst_broadcast walk = nst_broadcast_begin(p->elements, p->self_elements, p->other_elements);
    do {
        minimum_of((const int8_t *)tensors[0] + walk.self, (const int8_t *)tensors[1] + walk.other,
                   (int8_t *)tensors[2] + walk.output, walk.count);
    } while (nst_broadcast_next(&walk));
}

void nst_maximum_run(const void *params, void *const *tensors, void *scratch) {
    (void)scratch;
    const nst_minimum_maximum_params *p = params;
    nst_broadcast walk = nst_broadcast_begin(p->elements, p->self_elements, p->other_elements);
    do {
        maximum_of((const int8_t *)tensors[0] + walk.self, (const int8_t *)tensors[1] + walk.other,
                   (int8_t *)tensors[2] + walk.output, walk.count);
    } while (nst_broadcast_next(&walk));
}

#endif
