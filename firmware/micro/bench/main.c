/* kernel_bench: on its serial port, one JSON object a line.
 *
 *   {"shape": NAME, "macs": .., "fast": .., "portable": .., "mismatches": 0}
 *       each named shape; fast and portable are instructions. NAME/any-scale: with scales that
 *       need shifts.
 *   {"shape": KIND, "random": NUMBER, "mismatches": .., "params": [..]}
 *       each random shape that differs
 *   {"random_shapes": COUNT, "mismatches": 0}
 *       at the end
 *
 * The exit status is 0 when nothing differed. */
#include "boards/cortex_m/board.h"
#include "micro/bench/layer.h"
#include "micro/bench/operation.h"
#include "micro/bench/shapes.h"

#ifndef NESTLING_BENCH_RANDOM_SHAPES
#define NESTLING_BENCH_RANDOM_SHAPES 1500u
#endif

static void print(const char *text) {
    for (; *text != 0; ++text) {
        nst_board_put((uint8_t)*text);
    }
}

/* One member of an object: `before`, then the number. */
static void print_number(const char *before, int64_t number) {
    char digits[20];
    uint32_t count = 0;
    print(before);
    if (number < 0) {
        print("-");
    }
    uint64_t left = number < 0 ? (uint64_t)-number : (uint64_t)number;
    do {
        digits[count++] = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    while (count > 0) {
        nst_board_put((uint8_t)digits[--count]);
    }
}

static void print_result(const char *name, const char *suffix, const bench_result *result) {
    print("{\"shape\": \"");
    print(name);
    print(suffix);
    print_number("\", \"macs\": ", (int64_t)result->macs);
    print_number(", \"fast\": ", (int64_t)result->fast);
    print_number(", \"portable\": ", (int64_t)result->portable);
    print_number(", \"mismatches\": ", result->mismatches);
    print("}\n");
}

static void print_failure(uint32_t number, const char *name, const void *params,
                          uint32_t params_bytes, uint32_t mismatches) {
    print("{\"shape\": \"");
    print(name);
    print_number("\", \"random\": ", number);
    print_number(", \"mismatches\": ", mismatches);
    print(", \"params\": [");
    const int32_t *words = params;
    for (uint32_t i = 0; i < params_bytes / 4; ++i) {
        print_number(i == 0 ? "" : ", ", words[i]);
    }
    print("]}\n");
}

static uint32_t params_bytes(bench_kind kind) {
    return kind == BENCH_CONV2D      ? sizeof(nst_conv2d_params)
           : kind == BENCH_DEPTHWISE ? sizeof(nst_depthwise_params)
                                     : sizeof(nst_linear_params);
}

/* Operators without weights: the named shapes, then random ones. Returns how many differed. */
static uint32_t run_operations(bench_memory memory, uint32_t *random) {
    uint32_t bad = 0;
    for (uint32_t i = 0; i < bench_named_operation_count; ++i) {
        const bench_operation *operation = &bench_named_operations[i];
        const bench_result result = bench_run_operation(operation, memory, random);
        print_result(operation->name, "", &result);
        bad += result.mismatches != 0;
    }
    for (uint32_t i = 0; i < NESTLING_BENCH_RANDOM_SHAPES; ++i) {
        const bench_operation operation = bench_random_operation(random);
        const bench_result result = bench_run_operation(&operation, memory, random);
        if (result.mismatches != 0) {
            ++bad;
            print_failure(i, operation.name, &operation.params, operation.operator->params_bytes,
                          result.mismatches);
        }
    }
    return bad;
}

int main(void) {
    uint32_t bytes;
    uint8_t *begin = nst_board_memory(&bytes);
    const bench_memory memory = {begin, begin + bytes};
    uint32_t random = 1;
    uint32_t bad = 0;
    for (uint32_t i = 0; i < bench_named_count; ++i) {
        const bench_shape *shape = &bench_named_shapes[i];
        bench_result result = bench_run_layer(shape, memory, BENCH_SCALES_USUAL, true, &random);
        print_result(shape->name, "", &result);
        bad += result.mismatches != 0;
        result = bench_run_layer(shape, memory, BENCH_SCALES_ANY, true, &random);
        print_result(shape->name, "/any-scale", &result);
        bad += result.mismatches != 0;
    }
    uint32_t failures = 0;
    for (uint32_t i = 0; i < NESTLING_BENCH_RANDOM_SHAPES; ++i) {
        const bench_shape shape = bench_random_shape(&random);
        const bench_scales scales = i % 3 == 0 ? BENCH_SCALES_ANY : BENCH_SCALES_USUAL;
        const bench_result result = bench_run_layer(&shape, memory, scales, i % 2 == 0, &random);
        if (result.mismatches != 0) {
            ++failures;
            print_failure(i, shape.name, &shape.params, params_bytes(shape.kind),
                          result.mismatches);
        }
    }
    failures += run_operations(memory, &random);
    print_number("{\"random_shapes\": ", 2 * NESTLING_BENCH_RANDOM_SHAPES);
    print_number(", \"mismatches\": ", failures);
    print("}\n");
    return bad + failures == 0 ? 0 : 1;
}
