/* What an operator of the small-device engine is: a number in a plan, a record of parameters, a list of
 * tensors, two functions. C11, no heap, no recursion, no operating system.
 *
 * One operator a file: kernels/NAME.h declares its parameter record and its `nst_operator`, NAME.c has the
 * check and the portable kernel, NAME_mve.c and NAME_dsp.c the fast ones. Which one a build has is decided when
 * it is compiled (__ARM_FEATURE_MVE, __ARM_FEATURE_DSP), never at run time. All variants of an operator give
 * the same bytes.
 *
 * A parameter record is a plain struct of fixed-width little-endian integers and floats, each aligned to its own
 * size, without pointers, its size a multiple of 4. The compiler of plans writes the very same bytes
 * (toolchain/nestling/targets/cortex_m/operators.py), and the kernel reads them in place.
 */
#ifndef NESTLING_MICRO_OPERATOR_H
#define NESTLING_MICRO_OPERATOR_H

#include <stdbool.h>
#include <stdint.h>

#define NST_MAX_OPERATOR_TENSORS 8u

/* Tensors stand in one order everywhere: inputs, constants, the output last. Constants lie in flash and are
 * read where they lie. Every tensor is aligned to 16 bytes; XNNPACK-like reads past the end are forbidden. */
typedef struct nst_operator {
    const char *name;      /* as ExecuTorch spells it, without "cortex_m::" */
    uint32_t params_bytes; /* size of the parameter record */
    uint32_t tensors;      /* most tensors: inputs + constants + output */
    /* True when running with these parameters stays within these tensors and this scratch memory, whatever the
     * tensors hold. `tensor_bytes[i]` is the size of tensor i in bytes; 0 for an optional constant that is
     * absent. `params` come from outside: every field may have any value. Called once, when a plan is loaded. */
    bool (*check)(const void *params, const uint32_t *tensor_bytes, uint32_t scratch_bytes);
    /* Bytes of scratch memory that `run` needs in this build; only after a check with UINT32_MAX bytes. */
    uint32_t (*scratch_bytes)(const void *params);
    /* Compute. `tensors[i]` may be null for an absent optional constant. The output overlaps no input. */
    void (*run)(const void *params, void *const *tensors, void *scratch);
} nst_operator;

#endif
