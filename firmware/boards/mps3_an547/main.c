/* nestling-m55: bundles in flash, the small-device engine, and the protocol on the first serial
 * port. */
#include "boards/cortex_m/board.h"
#include "boards/cortex_m/system.h"
#include "core/divide.h"
#include "core/sentence.h"
#include "core/signature.h"
#include "core/smp_server.h"
#include "flash_ddr.h"
#include "micro/engine.h"
#include "serial.h"
#include "small_crypto.h"
#include "watchdog.h"

enum {
    BUFFER_BYTES = 2048,
    INDEX_BYTES = 256 << 10,
    STATE_BYTES = 512 << 10,
    ARENA_BYTES = 2 << 20,
    PATHS = 64,
    INSTRUCTIONS_A_MS = 31250 /* 32 ns each */
};

/* Large, and not cleared at the start. */
#define SRAM __attribute__((section(".sram"), aligned(16)))
static uint8_t arena[ARENA_BYTES] SRAM;
static uint8_t engine_state[STATE_BYTES] SRAM;
static uint8_t store_index[INDEX_BYTES] SRAM;

static nst_flash flash;
static nst_provision provision;
static nst_store store;
static nst_micro engine;
static nst_smp_server server;
static nst_smp_line line;
static nst_policy_cost costs[PATHS];
static uint8_t request[BUFFER_BYTES + 2];
static uint8_t response[BUFFER_BYTES];
static uint64_t started; /* instructions; the counter goes on over a reset */

static const char *const targets[] = {"cortex-m55"};

static uint64_t uptime_ms(void *self) {
    (void)self;
    uint16_t rest;
    return nst_divide_u64(nst_board_instructions() - started, INSTRUCTIONS_A_MS, &rest);
}

static uint64_t now(void *self) {
    (void)self;
    return nst_board_instructions();
}

static void reset(void *self) {
    (void)self;
    nst_system_reset();
}

static void alive(void *self) {
    (void)self;
    nst_watchdog_feed();
}

static const nst_smp_platform_ops platform = {
    .uptime_ms = uptime_ms, .now = now, .reset = reset, .alive = alive};

/* SHA-256 in pieces, so that the watchdog is fed while a large bundle is hashed. */
static int hash_update(nst_hash_state *state, const void *data, size_t bytes) {
    const size_t most = 256 << 10;
    const uint8_t *at = data;
    int code = 0;
    while (code == 0 && bytes > 0) {
        size_t piece = bytes < most ? bytes : most;
        nst_watchdog_feed();
        code = nst_hash_small.update(state, at, piece);
        at += piece;
        bytes -= piece;
    }
    return code;
}

static int hash_init(nst_hash_state *state) {
    return nst_hash_small.init(state);
}

static int hash_final(nst_hash_state *state, uint8_t digest[NST_HASH_BYTES]) {
    return nst_hash_small.final(state, digest);
}

static const nst_hash_ops hash = {hash_init, hash_update, hash_final};

/* A board with a key runs what is signed with it, and nothing else. */
static int verify(void *context, const nst_bundle *bundle, nst_error *err) {
    (void)context;
#if NST_SIGNATURES
    return nst_bundle_verify(bundle, provision.public_key, &hash, nst_verify_small, err);
#else
    (void)bundle;
    return nst_fail_in(err, NST_E_SIGNATURE, "signature",
                       NST_TEXT("the board has a key, but its firmware cannot check signatures"));
#endif
}

/* Messages that come in during a run: an echo or a cancel is answered at once. At any other time
 * they wait for the main loop. */
static void serve_in_run(void) {
    int byte;
    while (server.running && (byte = serial_take()) >= 0) {
        nst_smp_line_take(&line, (uint8_t)byte);
    }
}

static int start(nst_error *err) {
    started = nst_board_instructions();
    nst_provision_read(&provision);
    nst_flash_ddr_init(&flash);
    const nst_micro_config micro = {.flash = flash.memory,
                                    .flash_bytes = flash.geometry.size_bytes,
                                    .state = engine_state,
                                    .state_bytes = sizeof engine_state,
                                    .arena = arena,
                                    .arena_bytes = sizeof arena,
                                    .isa = NST_ISA_MVE,
                                    .targets = targets,
                                    .target_count = 1,
                                    .hash = &hash,
                                    .verify = provision.public_key != NULL ? verify : NULL,
                                    .counter = now,
                                    .alive = alive};
    const nst_smp_config config = {.device = nst_board_name,
                                   .version = NESTLING_VERSION,
                                   .targets = targets,
                                   .target_count = 1,
                                   .platform = &platform,
                                   .engine = {&nst_micro_ops, &engine},
                                   .store = &store,
                                   .costs = costs,
                                   .cost_count = PATHS,
                                   .buffer_bytes = BUFFER_BYTES,
                                   .faults = true};
    int code = nst_micro_init(&engine, &micro, err);
    if (code == NST_OK) {
        code = nst_store_open(&store, &flash, &hash, store_index, sizeof store_index, err);
    }
    if (code == NST_OK) {
        code = nst_smp_server_init(&server, &config, err);
    }
    if (code == NST_OK) {
        nst_smp_line_init(&line, &server, request, response, serial_put, NULL);
        code = nst_smp_server_boot(&server, err);
    }
    return code;
}

static void say(const char *text) {
    while (*text != '\0') {
        nst_board_put((uint8_t)*text++);
    }
}

int main(void) {
    nst_error err = {0};
    if (start(&err) != NST_OK) {
        /* Log text on the line: clients pass over it, people read it. */
        say("nestling: ");
        say(err.message);
        say("\n");
        return 1;
    }
    serial_start(serve_in_run);
    for (;;) {
        nst_smp_line_take(&line, serial_wait());
    }
}
