/* A nestling device inside this process: the protocol server of nestlingd behind a byte pipe
 * (libnestlingd.so). For harnesses, bindings of other languages, and simulators that bring an
 * engine of their own.
 *
 *     nst_pipe_options options;
 *     nst_pipe *pipe = NULL;
 *     nst_pipe_options_default(&options);
 *     options.flash_path = "device.flash";
 *     if (nst_pipe_create(&options, &pipe, &err) != NST_OK) ...
 *     nst_pipe_write(pipe, request, request_bytes, &err);   // what a serial line would carry
 *     got = nst_pipe_read(pipe, answer, sizeof answer, 0);
 *     nst_pipe_destroy(pipe);
 *
 * The bytes are SMP with its serial framing, as on a UART (core/smp_frame.h, core/smp.cddl).
 *
 *   errors     0 (NST_OK) or a negative nst_code with `err` (may be null) filled.
 *   pointers   must not be null unless the text says "may be null".
 *   threads    nst_pipe_write and nst_pipe_read may be called by any thread. The device works in
 *              the thread that writes: nst_pipe_write returns when all that was written has been
 *              answered. If another thread is inside of nst_pipe_write already, that thread
 *              answers, and the call returns at once. So a run blocks its writer and nobody else: a
 *              cancel or an echo that a second thread writes meanwhile is answered at once,
 *              anything else as busy. All other functions: from one thread, while none writes.
 *   flash      lies in a file, see nst_pipe_options.flash_path. Everything that was answered is in
 *              the file; destroying a pipe at any moment is what a power cut is to a device.
 */
#ifndef NESTLING_BOARDS_LINUX_SERVER_PIPE_H
#define NESTLING_BOARDS_LINUX_SERVER_PIPE_H

#include <stddef.h>
#include <stdint.h>

#include "core/engine.h"
#include "core/flash.h"
#include "core/smp_server.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct nst_pipe nst_pipe;

/* Fill with nst_pipe_options_default and change what you need. Everything is copied but `sensors`'
 * and the engine's `self`. */
typedef struct nst_pipe_options {
    uint64_t struct_bytes; /* sizeof(nst_pipe_options), set by nst_pipe_options_default */
    /* File that is the flash; made when it is not there, locked against a second user while it is
     * open. Must be set. */
    const char *flash_path;
    /* Room for one bundle in each of the two slots, in bytes. 0 (default): as an existing file has
     * it, 64 MiB for a new one (which takes room on the disk as it is written). An existing file
     * of another size is refused. */
    uint64_t slot_bytes;
    /* Erase and program units of the flash, in bytes; see nst_flash_geometry. Default: 16384 and
     * 4096. Not noted in the file: always the same for one file. */
    uint32_t sector_bytes;
    uint32_t page_bytes;
    /* Largest SMP message, request or answer, in bytes, 512 to 65535. Default: 16384. */
    uint32_t message_bytes;
    /* Name in the answer to `info`. Null (default): "linux-" and the processor, "linux-x86_64". */
    const char *device;
    /* Targets of bundles that run here, best first, separated by commas. Null (default):
     * "xnnpack". */
    const char *targets;
    /* Ed25519 public key of 32 bytes: bundles that it did not sign are refused. Null (default):
     * signatures are not looked at. ExecuTorch engine only. */
    const uint8_t *public_key;
    /* Memory budget at the start, and threads of a run: as in nst_model_options. Default: no limit,
     * all processors. ExecuTorch engine only. */
    uint64_t budget_bytes;
    uint32_t threads;
    /* Not 0 (default 0): wait for the disk before and after each mark in the superblock, so that
     * the file survives a power cut of this computer too, not only of the process. */
    uint8_t durable;
    /* Not 0 (default 0): clients may ask for power cuts (core/smp_server.h, `faults`). */
    uint8_t faults;
    uint8_t reserved[2]; /* zero */
    /* The three below with `user`, each may be null (default). Milliseconds since the start:
     * instead of the monotonic clock, for virtual time. */
    uint64_t (*uptime_ms)(void *user);
    /* Units of the engine's clock (nst_engine_ops.clock), for what a switch costs: instead of
     * the monotonic clock in nanoseconds. */
    uint64_t (*now)(void *user);
    /* Temperature and battery for telemetry. The struct comes zeroed. */
    void (*sensors)(void *user, nst_smp_sensors *out);
    void *user;
} nst_pipe_options;

void nst_pipe_options_default(nst_pipe_options *out);

/* A device with the ExecuTorch engine: opens the flash and the bundle in it, if there is one.
 * NST_E_ARGUMENT, NST_E_IO (the file), NST_E_STATE (somebody has the file open), NST_E_LIMIT,
 * NST_E_NO_MEMORY. A bundle that does not open is no error: the device says so when asked. */
int nst_pipe_create(const nst_pipe_options *options, nst_pipe **out, nst_error *err);

/* A device with an engine of the caller's (`engine` is copied; ops and self must outlive the
 * pipe). Its functions are called from nst_pipe_create_with_engine, nst_pipe_write,
 * nst_pipe_restart and nst_pipe_destroy (close), in the calling thread; `cancel` too. `open` is
 * given offsets into the flash: see nst_pipe_flash. Called before that has returned, use
 * `flash_path`. */
int nst_pipe_create_with_engine(const nst_pipe_options *options, const nst_engine *engine,
                                nst_pipe **out, nst_error *err);

/* Close the engine and the file. Null is allowed. Nobody may be inside of another function. */
void nst_pipe_destroy(nst_pipe *pipe);

/* Give bytes to the device; see "threads" above. Any number of bytes, cut anywhere.
 * NST_E_STATE: the power is off (see nst_pipe_cut_after), the bytes are lost. */
int nst_pipe_write(nst_pipe *pipe, const void *data, size_t bytes, nst_error *err);

/* Take bytes that the device has sent, at most `capacity`; returns how many. Waits up to
 * `timeout_ms` for the first one; 0: does not wait. */
size_t nst_pipe_read(nst_pipe *pipe, void *out, size_t capacity, uint32_t timeout_ms);

/* Bytes that nst_pipe_read would give at once. */
size_t nst_pipe_pending(nst_pipe *pipe);

/* For an engine of the caller's, inside of its run: answer what other threads have written in the
 * meantime, which may call the engine's `cancel`. */
void nst_pipe_serve_meanwhile(nst_pipe *pipe);

/* Power off and on: bytes under way in both directions are lost, the bundle is opened anew from
 * the flash. Also after a power cut. Errors as nst_pipe_create. A client's reset command does the
 * same by itself. */
int nst_pipe_restart(nst_pipe *pipe, nst_error *err);

/* The flash: its memory, geometry and counters of operations. Lives as long as the pipe; read
 * only. */
const nst_flash *nst_pipe_flash(const nst_pipe *pipe);

/* Let the power fail in the `operations`-th flash operation from now (1: the next one); 0: never.
 * From then on the device is dead: it answers nothing, and nst_pipe_write says NST_E_STATE, until
 * nst_pipe_restart. */
void nst_pipe_cut_after(nst_pipe *pipe, uint64_t operations, nst_flash_cut cut);

/* Counters of the server since the last restart. */
const nst_smp_counters *nst_pipe_counters(const nst_pipe *pipe);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
