/* The fuzz target: a manifest, put into a bundle with a right prefix and right hash, opened and
 * read to the end.
 *
 * Has the shape that libFuzzer and AFL++ ask for; fuzz_loop.c drives it where neither is there. The
 * sections behind the manifest come from the seed. */
#include "fuzz_bundle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bundle.h"
#include "hash_sodium.h"
#include "json.h"
#include "path.h"
#include "signature.h"
#include "targets.h"

static uint8_t *sections; /* from the first section to the end of the seed */
static size_t sections_bytes;
static FILE *sink;

static size_t sections_start(size_t manifest_bytes) {
    size_t end = NST_PREFIX_BYTES + manifest_bytes + NST_SIGNATURE_BYTES;
    return (end + NST_SECTION_ALIGNMENT - 1) / NST_SECTION_ALIGNMENT * NST_SECTION_ALIGNMENT;
}

static void store(uint8_t *at, uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

bool fuzz_seed(const uint8_t *data, size_t size, const uint8_t **out_manifest, size_t *out_bytes) {
    nst_prefix prefix;
    if (nst_bundle_prefix(data, size, &prefix, NULL) != NST_OK || size != prefix.total_bytes) {
        return false;
    }
    *out_manifest = data + NST_PREFIX_BYTES;
    *out_bytes = (size_t)prefix.manifest_bytes;
    size_t start = sections_start(*out_bytes);
    if (sections == NULL) {
        sections_bytes = size - start;
        sections = malloc(sections_bytes);
        sink = fopen("/dev/null", "w");
        if (sections == NULL || sink == NULL) {
            abort();
        }
        memcpy(sections, data + start, sections_bytes);
    }
    return true;
}

/* Stages that stand in for each other do so both ways, and are for the target that was asked for. */
static void read_targets(const nst_bundle *bundle) {
    for (uint32_t t = 0; t < nst_bundle_target_count(bundle); t++) {
        nst_text target;
        nst_text found;
        nst_text own;
        if (nst_bundle_target(bundle, t, &target) != NST_OK) {
            abort();
        }
        for (uint32_t i = 0; i < bundle->count[NST_STAGES]; i++) {
            uint32_t other = nst_bundle_stand_in(bundle, i, target.data, target.bytes);
            if (nst_bundle_stage_target(bundle, i, &own) != NST_OK) {
                abort();
            }
            if (other != NST_NONE &&
                (nst_bundle_stage_target(bundle, other, &found) != NST_OK ||
                 found.bytes != target.bytes ||
                 memcmp(found.data, target.data, target.bytes) != 0 ||
                 nst_bundle_stand_in(bundle, other, own.data, own.bytes) != i)) {
                abort();
            }
        }
    }
}

/* Read everything that an opened bundle says; its own promises must hold. */
static void read_all(const nst_bundle *bundle, const uint8_t *salt, size_t salt_bytes) {
    nst_error err;
    nst_path_report report;
    uint32_t chain[8];
    if (json_bundle(sink, bundle) != NST_OK) {
        abort(); /* nst_bundle_open promised otherwise */
    }
    for (uint32_t i = 0; i < bundle->count[NST_SECTIONS]; i++) {
        (void)nst_bundle_check_section(bundle, i, &nst_hash_sodium, &err);
    }
    for (uint32_t i = 0; i < bundle->count[NST_STAGES]; i++) {
        nst_stage_info stage;
        if (nst_bundle_stage(bundle, i, &stage) != NST_OK ||
            nst_bundle_find(bundle, NST_STAGES, stage.name.data, stage.name.bytes) != i) {
            abort();
        }
    }
    read_targets(bundle);
    for (size_t i = 0; i < 8; i++) {
        chain[i] = salt_bytes > 0 ? salt[i * 131 % salt_bytes] % 6 : 0;
    }
    for (size_t count = 0; count <= 8; count++) {
        (void)nst_path_check(bundle, chain, count, &report, &err);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    nst_bundle bundle;
    nst_prefix prefix;
    nst_error err = {0};
    nst_hash_state state;
    size_t start = sections_start(size);
    size_t total = start + sections_bytes;
    uint8_t *file = calloc(1, total);
    if (file == NULL) {
        abort();
    }
    memcpy(file, "\x89NEST\r\n\x1a\x02\0\0\0\0\0\0\0", 16);
    store(file + 16, size, 8);
    store(file + 24, total, 8);
    memcpy(file + NST_PREFIX_BYTES, data, size);
    memcpy(file + start, sections, sections_bytes);
    nst_hash_sodium.init(&state);
    nst_hash_sodium.update(&state, data, size);
    nst_hash_sodium.final(&state, file + 32);
    if (nst_bundle_prefix(file, total, &prefix, &err) == NST_OK) {
        size_t index_bytes = nst_bundle_index_bytes(&prefix);
        void *index = malloc(index_bytes);
        int code =
            nst_bundle_open(&bundle, file, total, index, index_bytes, &nst_hash_sodium, &err);
        if (code == NST_OK) {
            read_all(&bundle, data, size);
        } else if (err.code != code || err.message[0] == '\0' || code == NST_E_ARGUMENT) {
            abort(); /* an error that says nothing */
        }
        free(index);
    }
    free(file);
    return 0;
}
