/* The scene of experts in flash on this machine, with sanitizers. */
#include "check.h"
#include "expert_flash_scene.h"

int main(void) {
    const scene_result result = run_expert_flash_scene();
    CHECK(result.failures == 0);
    if (result.failures > 0) {
        fprintf(stderr, "expert_flash_scene.c:%u: not true\n", (unsigned)result.first_line);
    }
    printf(
        "%u bytes of experts in %u bytes of memory: %u hits, %u misses; with half of them %u, %u; "
        "error %u ppm\n",
        (unsigned)result.flash_bytes, (unsigned)result.ram_bytes, (unsigned)result.hits,
        (unsigned)result.misses, (unsigned)result.hits_half, (unsigned)result.misses_half,
        (unsigned)result.worst_ppm);
    return finish();
}
