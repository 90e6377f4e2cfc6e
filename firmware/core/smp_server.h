/* The device protocol: an SMP (MCUmgr) server with groups 0 (operating system), 1 (images: the
 * bundle slots), 2 (statistics) and 64 (nestling). smp.cddl describes every message.
 *
 * The server knows no transport. nst_smp_serve takes one request and gives one answer; nst_smp_line
 * does so on a serial line, a byte at a time. It holds no memory of its own: everything lies in
 * structs and buffers of the caller, who keeps them alive and still.
 *
 *     nst_smp_server server;
 *     nst_smp_server_init(&server, &config);
 *     nst_smp_server_boot(&server, &err);              // opens the bundle that the store chooses
 *     nst_smp_line line;
 *     nst_smp_line_init(&line, &server, request, response, put, self);
 *     for (;;) nst_smp_line_take(&line, next_byte());  // answers, and resets when asked to
 */
#ifndef NESTLING_CORE_SMP_SERVER_H
#define NESTLING_CORE_SMP_SERVER_H

#include "engine.h"
#include "policy.h"
#include "slots.h"
#include "smp_frame.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define NST_SMP_HEADER_BYTES 8u
#define NST_SMP_LEAST_BUFFER_BYTES 512u /* that a server can work with */

typedef struct nst_smp_sensors {
    bool has_temperature;
    bool has_battery;
    float temperature_c;
    float battery; /* 0..1 */
} nst_smp_sensors;

/* What the platform does for the server. `self` is the platform's own. */
typedef struct nst_smp_platform_ops {
    uint64_t (*uptime_ms)(void *self);
    /* The engine's clock (nst_engine_ops.clock), for what a switch costs. Null: switches cost 0. */
    uint64_t (*now)(void *self);
    /* Start anew. Called when the answer has been sent; may return (a process that is to be started
     * again). */
    void (*reset)(void *self);
    /* Fill in what is known; the struct comes zeroed. Null: nothing is. */
    void (*sensors)(void *self, nst_smp_sensors *out);
    /* Feed the watchdog. Called before a request is worked on. Null: there is none. */
    void (*alive)(void *self);
} nst_smp_platform_ops;

typedef struct nst_smp_config {
    const char *device;         /* "mps3-an547", "linux-aarch64", ... */
    const char *version;        /* of the firmware or daemon */
    const char *const *targets; /* [target_count] bundle targets that run here, best first */
    uint32_t target_count;
    const nst_smp_platform_ops *platform;
    void *platform_self;
    nst_engine engine;
    nst_store *store;       /* open */
    nst_policy_cost *costs; /* [cost_count] memory of the policy */
    uint32_t
        cost_count; /* paths beyond have no measured cost, and `choose` does not look at them */
    uint32_t
        buffer_bytes; /* of one message, request or answer; at least NST_SMP_LEAST_BUFFER_BYTES */
    bool faults;      /* power cuts may be asked for (emulated boards only) */
} nst_smp_config;

/* Counters; all since the start. */
typedef struct nst_smp_counters {
    uint32_t requests; /* answered, errors included */
    uint32_t errors;   /* answered with an error */
    uint32_t silent;   /* frames without an answer: not a request */
    uint32_t runs;
    uint32_t switches; /* selects that changed the path */
    uint32_t cancels;
    uint32_t frames;     /* serial frames with a right CRC */
    uint32_t bad_frames; /* and damaged ones */
} nst_smp_counters;

typedef struct nst_smp_server {
    nst_smp_config config;
    nst_smp_counters counters;
    nst_policy policy;
    bool has_policy;   /* a bundle is open */
    uint32_t selected; /* path, or NST_NONE: a list of stages */
    uint32_t selected_stages;
    bool tracing;
    bool running;   /* inside of a run: only echo and cancel are answered */
    bool reset_due; /* after this answer */
} nst_smp_server;

/* `config` is copied, what it points at is not. NST_E_ARGUMENT. */
int nst_smp_server_init(nst_smp_server *server, const nst_smp_config *config, nst_error *err);

/* Open the bundle that the store chooses; a trial that does not open is rejected, and the active
 * one opened. NST_OK even if there is none: the server works without, and says so where it matters.
 * `err` then tells why the last one that was tried did not open. */
int nst_smp_server_boot(nst_smp_server *server, nst_error *err);

/* Answer one message. Returns the bytes of the answer in `response` (at most `room`, which must be
 * at least NST_SMP_LEAST_BUFFER_BYTES; the two buffers must not overlap), or 0: no answer. The
 * caller sends it, and then, if server->reset_due, resets. May be called from inside of a run (see
 * nst_smp_line_take). */
size_t nst_smp_serve(nst_smp_server *server, const uint8_t *request, size_t bytes,
                     uint8_t *response, size_t room);

/* A server on a serial line. */
typedef struct nst_smp_line {
    nst_smp_server *server;
    nst_smp_decoder decoder;
    uint8_t *response;
    size_t room;
    nst_smp_put_bytes put;
    void *put_self;
} nst_smp_line;

/* `request` and `response` have server->config.buffer_bytes each, and `request` 2 more for the CRC.
 */
void nst_smp_line_init(nst_smp_line *line, nst_smp_server *server, uint8_t *request,
                       uint8_t *response, nst_smp_put_bytes put, void *put_self);

/* Take a byte from the line; a message that is complete is answered before the function returns. A
 * run may take bytes in its midst, from a place where the engine lets the platform work: an echo or
 * a cancel is then answered at once, anything else with MGMT_ERR_EBUSY. */
void nst_smp_line_take(nst_smp_line *line, uint8_t byte);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
