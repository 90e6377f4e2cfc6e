#include "ram_device.h"

#include <stdlib.h>
#include <string.h>

#include "hash_sodium.h"

static int erase(void *self, size_t offset, nst_error *err) {
    ram_device *device = self;
    (void)err;
    memset(device->memory + offset, 0xFF, device->flash.geometry.sector_bytes);
    return NST_OK;
}

static int program(void *self, size_t offset, const uint8_t *data, size_t bytes, nst_error *err) {
    ram_device *device = self;
    (void)err;
    for (size_t i = 0; i < bytes; i++) {
        device->memory[offset + i] &= data[i];
    }
    return NST_OK;
}

static const nst_flash_ops flash_ops = {.erase = erase, .program = program};

static uint64_t uptime_ms(void *self) {
    (void)self;
    return 0;
}

static void reset(void *self) {
    ((ram_device *)self)->resets++;
}

static const nst_smp_platform_ops platform = {.uptime_ms = uptime_ms, .reset = reset};

void ram_device_make(ram_device *device, nst_flash_geometry geometry) {
    free(device->memory);
    memset(device, 0, sizeof *device);
    device->memory = malloc((size_t)geometry.size_bytes);
    if (device->memory == NULL) {
        abort();
    }
    memset(device->memory, 0xFF, (size_t)geometry.size_bytes);
    device->flash = (nst_flash){.ops = &flash_ops, .self = device, .geometry = geometry};
}

int ram_device_start(ram_device *device, nst_smp_put_bytes put, void *put_self, nst_error *err) {
    static const char *const targets[] = {"xnnpack"};
    /* Operations are counted on, and a cut that is to come still comes. */
    device->flash.memory = device->memory;
    if (device->flash.dead) {
        device->flash.dead = false;
        device->flash.cut_at = 0;
    }
    device->engine = (store_engine){.flash = &device->flash,
                                    .index = {device->engine_index[0], device->engine_index[1]},
                                    .index_bytes = sizeof device->engine_index[0]};
    int code = nst_store_open(&device->store, &device->flash, &nst_hash_sodium, device->store_index,
                              sizeof device->store_index, err);
    const nst_smp_config config = {.device = "ram",
                                   .version = "1.0",
                                   .targets = targets,
                                   .target_count = 1,
                                   .platform = &platform,
                                   .platform_self = device,
                                   .engine = {&store_engine_ops, &device->engine},
                                   .store = &device->store,
                                   .costs = device->costs,
                                   .cost_count = RAM_DEVICE_PATHS,
                                   .buffer_bytes = RAM_DEVICE_BUFFER_BYTES,
                                   .faults = true};
    if (code == NST_OK) {
        code = nst_smp_server_init(&device->server, &config, err);
    }
    if (code == NST_OK) {
        nst_smp_line_init(&device->line, &device->server, device->request, device->response, put,
                          put_self);
        code = nst_smp_server_boot(&device->server, err);
    }
    return code;
}
