/* A device in memory: NOR flash as bytes, the bundle store, and the protocol server with an engine
 * that only stores. */
#ifndef NESTLING_TESTS_CORE_RAM_DEVICE_H
#define NESTLING_TESTS_CORE_RAM_DEVICE_H

#include "smp_server.h"
#include "store_engine.h"

enum { RAM_DEVICE_BUFFER_BYTES = 2048, RAM_DEVICE_INDEX_BYTES = 1 << 16, RAM_DEVICE_PATHS = 16 };

typedef struct ram_device {
    uint8_t *memory; /* the flash; survives a reset */
    nst_flash flash;
    nst_store store;
    store_engine engine;
    nst_smp_server server;
    nst_smp_line line;
    uint32_t resets; /* that were asked for */
    uint32_t store_index[RAM_DEVICE_INDEX_BYTES / 4];
    uint32_t engine_index[2][RAM_DEVICE_INDEX_BYTES / 4];
    nst_policy_cost costs[RAM_DEVICE_PATHS];
    uint8_t request[RAM_DEVICE_BUFFER_BYTES + 2];
    uint8_t response[RAM_DEVICE_BUFFER_BYTES];
} ram_device;

/* Erased flash of this geometry. Ends the process if there is no memory. */
void ram_device_make(ram_device *device, nst_flash_geometry geometry);

/* Switch the power on (again): everything but the flash starts anew. `put` takes what the line
 * sends. */
int ram_device_start(ram_device *device, nst_smp_put_bytes put, void *put_self, nst_error *err);

#endif
