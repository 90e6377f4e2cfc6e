/* Experts in flash, a few of them in RAM (core/expert_flash.h), against plain loops over all of their
 * weights. For a test on this machine and for one on a bare microcontroller: no libc but memset. */
#ifndef NESTLING_TESTS_CORE_EXPERT_FLASH_SCENE_H
#define NESTLING_TESTS_CORE_EXPERT_FLASH_SCENE_H

#include <stdint.h>

typedef struct scene_result {
    uint32_t failures;    /* checks that failed */
    uint32_t first_line;  /* of the scene, of the first of them */
    uint32_t ram_bytes;   /* for two slots */
    uint32_t flash_bytes; /* of all experts */
    uint64_t hits;        /* with two slots */
    uint64_t misses;
    uint64_t hits_half; /* with room for half of the slices */
    uint64_t misses_half;
    uint32_t worst_ppm; /* largest error, in millionths of the largest output */
} scene_result;

scene_result run_expert_flash_scene(void);

#endif
