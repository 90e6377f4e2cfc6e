/* A ram_device behind a pipe, built with sanitizers, so that Python tests can talk to it.
 *
 * A request is one byte of operation, a little-endian u32 of payload bytes, and the payload; the
 * answer is a little-endian u32 of bytes, and the bytes. Messages are copied into memory of exactly
 * their size: reading one byte too many ends the process.
 *
 *   G  make a device: u64 size, u32 sector, u32 page of its flash. Answer: as I
 *   I  switch the power on: i32 code, then the error's message
 *   S  one SMP message: its answer, or nothing
 *   L  bytes of the serial line: what the device sends
 *   K  cut the power in the n-th flash operation from now: u64 n, u32 nst_flash_cut
 *   R  read the flash: u64 offset, u64 bytes
 *   W  overwrite the flash, whatever its rules say: u64 offset, bytes
 *   Q  u64 operations since the start, u32 whether the power failed, u32 resets asked for,
 *      u32 running slot, u32 state of slot 0 and 1, u64 where their bundles start
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ram_device.h"

static ram_device device;

typedef struct bytes {
    uint8_t *data;
    size_t used;
    size_t room;
} bytes;

static void append(void *self, const uint8_t *data, size_t count) {
    bytes *out = self;
    if (out->used + count > out->room) {
        out->room = 2 * (out->used + count);
        out->data = realloc(out->data, out->room);
        if (out->data == NULL) {
            abort();
        }
    }
    if (count > 0) {
        memcpy(out->data + out->used, data, count);
    }
    out->used += count;
}

static void append_u32(bytes *out, uint32_t value) {
    append(out, (const uint8_t *)&value, sizeof value);
}

static uint64_t load(const uint8_t *at, size_t count) {
    uint64_t value = 0;
    memcpy(&value, at, count);
    return value;
}

static bytes answer;

static void start(void) {
    nst_error err = {0};
    append_u32(&answer, (uint32_t)ram_device_start(&device, append, &answer, &err));
    append(&answer, (const uint8_t *)err.message, strlen(err.message));
}

static void serve(const uint8_t *request, size_t count) {
    uint8_t *response = malloc(RAM_DEVICE_BUFFER_BYTES);
    if (response == NULL) {
        abort();
    }
    size_t used = nst_smp_serve(&device.server, request, count, response, RAM_DEVICE_BUFFER_BYTES);
    append(&answer, response, used);
    free(response);
}

static void query(void) {
    uint64_t operations = device.flash.erases + device.flash.programs;
    append(&answer, (const uint8_t *)&operations, sizeof operations);
    append_u32(&answer, device.flash.dead);
    append_u32(&answer, device.resets);
    append_u32(&answer, device.store.running);
    for (uint32_t i = 0; i < NST_STORE_SLOTS; i++) {
        nst_store_slot slot;
        (void)nst_store_slot_state(&device.store, i, &slot);
        append_u32(&answer, (uint32_t)slot.state);
    }
    append(&answer, (const uint8_t *)device.store.bundle_offset, sizeof device.store.bundle_offset);
}

static void handle(int operation, const uint8_t *payload, size_t count) {
    switch (operation) {
        case 'G':
            ram_device_make(&device,
                            (nst_flash_geometry){load(payload, 8), (uint32_t)load(payload + 8, 4),
                                                 (uint32_t)load(payload + 12, 4)});
            start();
            break;
        case 'I':
            start();
            break;
        case 'S':
            serve(payload, count);
            break;
        case 'L':
            for (size_t i = 0; i < count; i++) {
                nst_smp_line_take(&device.line, payload[i]);
            }
            break;
        case 'K':
            nst_flash_cut_after(&device.flash, load(payload, 8),
                                (nst_flash_cut)load(payload + 8, 4));
            break;
        case 'R':
            append(&answer, device.memory + load(payload, 8), (size_t)load(payload + 8, 8));
            break;
        case 'W':
            memcpy(device.memory + load(payload, 8), payload + 8, count - 8);
            break;
        case 'Q':
            query();
            break;
        default:
            abort();
    }
}

int main(void) {
    int operation;
    while ((operation = getchar()) != EOF) {
        uint8_t head[4];
        if (fread(head, 1, sizeof head, stdin) != sizeof head) {
            return 2;
        }
        size_t count = (size_t)load(head, 4);
        uint8_t *payload = malloc(count > 0 ? count : 1);
        if (payload == NULL || fread(payload, 1, count, stdin) != count) {
            return 2;
        }
        answer.used = 0;
        handle(operation, payload, count);
        free(payload);
        uint32_t used = (uint32_t)answer.used;
        fwrite(&used, sizeof used, 1, stdout);
        fwrite(answer.data, 1, answer.used, stdout);
        fflush(stdout);
    }
    free(answer.data);
    free(device.memory);
    return 0;
}
