/* The scene of experts in flash on a bare microcontroller: one JSON object on its serial port. The
 * exit status is 0 when every check held. */
#include "boards/cortex_m/board.h"
#include "core/expert_flash_scene.h"

static void print(const char *text) {
    for (; *text != 0; text++) {
        nst_board_put((uint8_t)*text);
    }
}

/* One member of the object. */
static void print_number(const char *before, uint64_t number) {
    char digits[20];
    uint32_t count = 0;
    print(before);
    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    while (count > 0) {
        nst_board_put((uint8_t)digits[--count]);
    }
}

int main(void) {
    const uint64_t before = nst_board_instructions();
    const scene_result result = run_expert_flash_scene();
    print_number("{\"instructions\": ", nst_board_instructions() - before);
    print_number(", \"failures\": ", result.failures);
    print_number(", \"first_line\": ", result.first_line);
    print_number(", \"flash_bytes\": ", result.flash_bytes);
    print_number(", \"ram_bytes\": ", result.ram_bytes);
    print_number(", \"hits\": ", result.hits);
    print_number(", \"misses\": ", result.misses);
    print_number(", \"hits_half\": ", result.hits_half);
    print_number(", \"misses_half\": ", result.misses_half);
    print_number(", \"worst_ppm\": ", result.worst_ppm);
    print("}\n");
    return result.failures > 0;
}
