/* What the fuzzer tries on the protocol server: a device that runs a bundle gets requests, and goes
 * on running one.
 *
 * An input is one byte of mode and then, mode 0: bytes of the serial line; otherwise requests, each
 * of operation, group, command, u16 bytes of body, body. Headers are made here, so that what is
 * mutated is what they carry. */
#include <stdlib.h>
#include <string.h>

#include "fuzz_bundle.h"
#include "ram_device.h"

static const nst_flash_geometry geometry = {256 << 10, 4096, 256};

static ram_device device;
static uint8_t *snapshot; /* of the flash, with a bundle confirmed */
static uint8_t response[RAM_DEVICE_BUFFER_BYTES];

static void ignore(void *self, const uint8_t *data, size_t bytes) {
    (void)self;
    (void)data;
    (void)bytes;
}

static void require(bool holds) {
    if (!holds) {
        abort();
    }
}

/* A bundle is put on the device; any other file is an input. */
bool fuzz_seed(const uint8_t *data, size_t size, const uint8_t **out_input, size_t *out_bytes) {
    static const uint8_t nothing[1] = {0};
    nst_error err = {0};
    uint64_t next = 0;
    *out_input = data;
    *out_bytes = size;
    if (size < 8 || memcmp(data, "\x89NEST", 5) != 0) {
        return snapshot != NULL;
    }
    ram_device_make(&device, geometry);
    require(ram_device_start(&device, ignore, NULL, &err) == NST_OK);
    require(nst_store_upload(&device.store, 0, data, size, size, NULL, &next, &err) == NST_OK);
    require(nst_store_confirm(&device.store, 0, &err) == NST_OK);
    snapshot = malloc((size_t)geometry.size_bytes);
    require(snapshot != NULL);
    memcpy(snapshot, device.memory, (size_t)geometry.size_bytes);
    *out_input = nothing;
    *out_bytes = sizeof nothing;
    return true;
}

/* One request with a header that fits it; returns the bytes that it took. */
static size_t request(const uint8_t *data, size_t size) {
    if (size < 5) {
        return size;
    }
    size_t body = (size_t)data[3] | (size_t)data[4] << 8;
    body = body < size - 5 ? body : size - 5;
    uint8_t *message = malloc(NST_SMP_HEADER_BYTES + body);
    require(message != NULL);
    const uint8_t header[NST_SMP_HEADER_BYTES] = {(uint8_t)(8 | (data[0] & 7)),
                                                  0,
                                                  (uint8_t)(body >> 8),
                                                  (uint8_t)body,
                                                  0,
                                                  data[1],
                                                  7,
                                                  data[2]};
    memcpy(message, header, sizeof header);
    memcpy(message + sizeof header, data + 5, body);
    size_t used =
        nst_smp_serve(&device.server, message, sizeof header + body, response, sizeof response);
    require(used == 0 || (used >= NST_SMP_HEADER_BYTES && used <= sizeof response &&
                          response[0] == header[0] + 1 && response[6] == 7));
    free(message);
    return 5 + body;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    nst_error err = {0};
    memcpy(device.memory, snapshot, (size_t)geometry.size_bytes);
    require(ram_device_start(&device, ignore, NULL, &err) == NST_OK);
    if (size > 0 && data[0] == 0) {
        for (size_t i = 1; i < size; i++) {
            nst_smp_line_take(&device.line, data[i]);
        }
    } else if (size > 0) {
        for (size_t at = 1; at < size;) {
            at += request(data + at, size - at);
        }
    }
    require(device.engine.open);
    return 0;
}
