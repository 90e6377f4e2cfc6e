/* Which instructions this build may use. NAME.c holds the check and, where no faster file replaces
 * it, the portable kernel:
 *
 *     NAME.c        #if !NST_MVE && !NST_DSP   (leave out what has no such file)
 *     NAME_mve.c    #if NST_MVE
 *     NAME_dsp.c    #if NST_DSP
 *
 * so all files of an operator are compiled in every build, and exactly one of them defines
 * nst_NAME_run. */
#ifndef NESTLING_MICRO_KERNELS_VARIANT_H
#define NESTLING_MICRO_KERNELS_VARIANT_H

#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1)
#define NST_MVE 1 /* Cortex-M55, M85: Helium, integers */
#else
#define NST_MVE 0
#endif

#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2)
#define NST_MVE_FLOAT 1 /* Helium, integers and floats */
#else
#define NST_MVE_FLOAT 0
#endif

#if !NST_MVE && defined(__ARM_FEATURE_DSP)
#define NST_DSP 1 /* Cortex-M4, M7, M33: 16-bit pairs in a register */
#else
#define NST_DSP 0
#endif

#endif
