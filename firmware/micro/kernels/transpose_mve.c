/* transpose with MVE: eight bytes, or four words, gathered at a time. */
#include "micro/kernels/transpose.h"
#include "micro/kernels/variant.h"

#if NST_MVE

#include "micro/kernels/copy_mve.h"
#include "micro/kernels/transpose_copy.h"

static void gather_bytes(uint8_t *output, const uint8_t *input, uint32_t count, size_t step) {
    uint32_t zero = 0;
    const size_t advance = 8 * step;
    __asm__ volatile(
        "   vidup.u16 q0, %[zero], #1\n"
        "   vmul.i16 q0, q0, %[step]\n"
        "   wlstp.16 lr, %[count], 2f\n"
        "1: vldrb.u16 q1, [%[input], q0]\n"
        "   add %[input], %[input], %[advance]\n"
        "   vstrb.16 q1, [%[output]], #8\n"
        "   letp lr, 1b\n"
        "2:\n"
        : [output] "+l"(output), [input] "+r"(input), [zero] "+Te"(zero)
        : [count] "r"(count), [step] "r"(step), [advance] "r"(advance)
        : "q0", "q1", "lr", "memory");
}

static void gather_words(uint8_t *output, const uint8_t *input, uint32_t count, size_t step) {
    uint32_t zero = 0;
    const size_t advance = 4 * step;
    __asm__ volatile(
        "   vidup.u32 q0, %[zero], #1\n"
        "   vmul.i32 q0, q0, %[step]\n"
        "   wlstp.32 lr, %[count], 2f\n"
        "1: vldrw.u32 q1, [%[input], q0]\n"
        "   add %[input], %[input], %[advance]\n"
        "   vstrw.32 q1, [%[output]], #16\n"
        "   letp lr, 1b\n"
        "2:\n"
        : [output] "+r"(output), [input] "+r"(input), [zero] "+Te"(zero)
        : [count] "r"(count), [step] "r"(step), [advance] "r"(advance)
        : "q0", "q1", "lr", "memory");
}

static void copy_mve(uint8_t *output, const uint8_t *input, uint32_t count, size_t step,
                     uint32_t bytes) {
    if (step == bytes) {
        nst_copy_mve((int8_t *)output, (const int8_t *)input, count * bytes);
    } else if (bytes == 1 && step <= UINT16_MAX / 8) {
        gather_bytes(output, input, count, step);
    } else if (bytes == 4) {
        gather_words(output, input, count, step);
    } else {
        for (uint32_t i = 0; i < count * bytes; ++i) {
            output[i] = input[i / bytes * step + i % bytes];
        }
    }
}

void nst_transpose_run(const void *params, void *const *tensors, void *scratch) {
    (void)scratch;
    nst_transpose_with(params, tensors, copy_mve);
}

#endif
