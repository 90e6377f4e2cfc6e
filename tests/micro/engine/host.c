/* The engine in a process, for ctypes: one bundle in memory that stands for flash, everything else allocated here. */
#include <stdlib.h>
#include <string.h>

#include "boards/linux/hash_sodium.h"
#include "micro/engine.h"

typedef struct host {
    nst_micro engine;
    uint8_t *flash;
    void *state;
    void *arena;
    uint64_t ticks;
    uint64_t feeds; /* of the watchdog */
} host;

/* Counts calls: any counter will do where only "without changing results" is to be shown. */
static uint64_t tick(void *context) {
    return ++((host *)context)->ticks;
}

static void alive(void *context) {
    ++((host *)context)->feeds;
}

void host_free(host *self);

/* `size` bytes of flash, all ones; `isa` as nst_isa; `target` is the one that runs here. */
host *host_new(uint64_t size, uint64_t state_bytes, uint64_t arena_bytes, uint32_t isa,
               const char *const *target, nst_error *err) {
    host *self = calloc(1, sizeof *self);
    if (self == NULL) {
        return NULL;
    }
    self->flash = aligned_alloc(64, (size + 63) / 64 * 64);
    self->state = aligned_alloc(16, (state_bytes + 15) / 16 * 16);
    self->arena = aligned_alloc(16, (arena_bytes + 15) / 16 * 16);
    const nst_micro_config config = {
        .flash = self->flash,
        .flash_bytes = size,
        .state = self->state,
        .state_bytes = state_bytes,
        .arena = self->arena,
        .arena_bytes = arena_bytes,
        .isa = (nst_isa)isa,
        .targets = target,
        .target_count = 1,
        .hash = &nst_hash_sodium,
        .counter = tick,
        .alive = alive,
        .context = self,
    };
    if (self->flash == NULL || self->state == NULL || self->arena == NULL ||
        nst_micro_init(&self->engine, &config, err) != NST_OK) {
        host_free(self);
        return NULL;
    }
    memset(self->flash, 0xFF, size);
    memset(self->arena, 0xA5, arena_bytes);
    return self;
}

void host_free(host *self) {
    free(self->flash);
    free(self->state);
    free(self->arena);
    free(self);
}

void host_flash(host *self, uint64_t offset, const uint8_t *data, uint64_t size) {
    memcpy(self->flash + offset, data, size);
}

/* Scribble over the arena, inputs and outputs too. */
void host_scribble(host *self, uint64_t bytes, uint8_t value) {
    memset(self->arena, value, bytes);
}

int host_open(host *self, uint64_t offset, uint64_t size, nst_error *err) {
    return nst_micro_ops.open(&self->engine, offset, size, err);
}

uint64_t host_state_bytes(host *self) {
    return nst_micro_state_bytes(nst_micro_ops.bundle(&self->engine));
}

int host_select(host *self, uint32_t path, nst_error *err) {
    return nst_micro_ops.select(&self->engine, path, err);
}

int host_select_stages(host *self, const uint32_t *stages, uint32_t count, nst_error *err) {
    return nst_micro_ops.select_stages(&self->engine, stages, count, err);
}

int host_write(host *self, uint32_t slot, const uint8_t *data, uint64_t size, nst_error *err) {
    void *memory;
    size_t bytes;
    int code = nst_micro_ops.tensor(&self->engine, slot, &memory, &bytes, err);
    if (code == NST_OK && bytes != size) {
        return nst_fail(err, NST_E_ARGUMENT, NULL, NULL, bytes, size, "wrong size");
    }
    if (code == NST_OK) {
        memcpy(memory, data, bytes);
    }
    return code;
}

int host_read(host *self, uint32_t slot, uint8_t *data, uint64_t size, nst_error *err) {
    void *memory;
    size_t bytes;
    int code = nst_micro_ops.tensor(&self->engine, slot, &memory, &bytes, err);
    if (code == NST_OK && bytes != size) {
        return nst_fail(err, NST_E_ARGUMENT, NULL, NULL, bytes, size, "wrong size");
    }
    if (code == NST_OK) {
        memcpy(data, memory, bytes);
    }
    return code;
}

int host_run(host *self, uint64_t *out_duration, uint32_t *out_stages, nst_error *err) {
    nst_run_report report;
    int code = nst_micro_ops.run(&self->engine, &report, err);
    if (code == NST_OK) {
        *out_duration = report.duration;
        *out_stages = report.stages;
    }
    return code;
}

int host_stage(host *self, uint32_t stage, nst_stage_report *out, nst_error *err) {
    return nst_micro_ops.stage_report(&self->engine, stage, out, err);
}

int host_memory(host *self, nst_engine_memory *out, nst_error *err) {
    return nst_micro_ops.memory(&self->engine, out, err);
}

uint64_t host_feeds(const host *self) {
    return self->feeds;
}

void host_close_bundle(host *self) {
    nst_micro_ops.close(&self->engine);
}

int host_budget(host *self, uint64_t bytes, nst_error *err) {
    return nst_micro_ops.set_budget(&self->engine, bytes, err);
}

void host_trace(host *self, int on) {
    nst_micro_ops.set_trace(&self->engine, on != 0);
}

void host_cancel(host *self) {
    nst_micro_ops.cancel(&self->engine);
}
