#include "bundle.h"

#include <string.h>

#include "checked.h"
#include "reader.h"
#include "sentence.h"
#include "signature.h"

static const uint8_t magic[8] = {0x89, 'N', 'E', 'S', 'T', '\r', '\n', 0x1A};

/* No entry of any table is shorter: a position with a name of one byte. The index needs 12 bytes an
 * entry. */
enum { SHORTEST_ENTRY_BYTES = 25, INDEX_BYTES_AN_ENTRY = 12 };

static uint32_t load_u32(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint64_t load_u64(const uint8_t *at) {
    return (uint64_t)load_u32(at) | (uint64_t)load_u32(at + 4) << 32;
}

static int fail_prefix(nst_error *err, int code, uint64_t expected, uint64_t actual,
                       const char *message) {
    return nst_fail(err, code, "prefix", NULL, expected, actual, message);
}

int nst_bundle_prefix(const void *data, size_t size, nst_prefix *out, nst_error *err) {
    const uint8_t *at = data;
    if (out == NULL || (data == NULL && size > 0)) {
        return fail_prefix(err, NST_E_ARGUMENT, 0, 0, NST_TEXT("data or out is null"));
    }
    size_t compared = size < sizeof magic ? size : sizeof magic;
    if (compared > 0 && memcmp(at, magic, compared) != 0) {
        return fail_prefix(err, NST_E_FOREIGN, 0, 0, NST_TEXT("this is not a nestling bundle"));
    }
    if (size < NST_PREFIX_BYTES) {
        return fail_prefix(err, NST_E_TRUNCATED, NST_PREFIX_BYTES, size,
                           NST_TEXT("the bundle is cut short"));
    }
    out->format_version = load_u32(at + 8);
    out->signature_bytes = load_u32(at + 12);
    out->manifest_bytes = load_u64(at + 16);
    out->total_bytes = load_u64(at + 24);
    memcpy(out->manifest_sha256, at + 32, NST_HASH_BYTES);
    if (out->format_version == 0 || out->format_version > NST_FORMAT_VERSION) {
        return fail_prefix(err, NST_E_VERSION, NST_FORMAT_VERSION, out->format_version,
                           out->format_version > NST_FORMAT_VERSION
                               ? NST_TEXT("the bundle is of a newer format version")
                               : NST_TEXT("the bundle is of an unknown format version"));
    }
    if (out->manifest_bytes > NST_MAX_MANIFEST_BYTES) {
        return fail_prefix(err, NST_E_LIMIT, NST_MAX_MANIFEST_BYTES, out->manifest_bytes,
                           NST_TEXT("the manifest is too large"));
    }
    if (out->manifest_bytes == 0 ||
        (out->signature_bytes != 0 && out->signature_bytes != NST_SIGNATURE_BYTES)) {
        return fail_prefix(err, NST_E_CORRUPT, 0, 0, NST_TEXT("the prefix gives impossible sizes"));
    }
    uint64_t least = NST_PREFIX_BYTES + out->manifest_bytes + NST_SIGNATURE_BYTES;
    if (out->total_bytes <= least) {
        return fail_prefix(err, NST_E_CORRUPT, least, out->total_bytes,
                           NST_TEXT("the bundle is smaller than its own manifest"));
    }
    if (out->total_bytes > SIZE_MAX) {
        return fail_prefix(err, NST_E_LIMIT, SIZE_MAX, out->total_bytes,
                           NST_TEXT("the bundle is larger than this machine can address"));
    }
    return NST_OK;
}

size_t nst_bundle_index_bytes(const nst_prefix *prefix) {
    /* At most 64 MiB / 25 x 12, from a manifest size that nst_bundle_prefix has bounded. */
    uint64_t bytes = prefix->manifest_bytes;
    if (bytes > NST_MAX_MANIFEST_BYTES) {
        return 0;
    }
    return ((size_t)bytes / SHORTEST_ENTRY_BYTES + 1) * INDEX_BYTES_AN_ENTRY;
}

static int check_manifest_hash(const nst_bundle *bundle, const nst_hash_ops *hash, nst_error *err) {
    nst_hash_state state;
    uint8_t digest[NST_HASH_BYTES];
    if (hash->init(&state) != 0 ||
        hash->update(&state, bundle->manifest, (size_t)bundle->prefix.manifest_bytes) != 0 ||
        hash->final(&state, digest) != 0) {
        return nst_fail(err, NST_E_HASH, "manifest", NULL, 0, 0,
                        NST_TEXT("the hash could not be computed"));
    }
    if (memcmp(digest, bundle->prefix.manifest_sha256, NST_HASH_BYTES) != 0) {
        return nst_fail(err, NST_E_HASH, "manifest", NULL, 0, 0,
                        NST_TEXT("the manifest's bytes are not those that were written"));
    }
    return NST_OK;
}

int nst_open_head(nst_bundle *out, const void *data, size_t size, void *index, size_t index_bytes,
                  const nst_hash_ops *hash, nst_error *err) {
    nst_bundle bundle = {.data = data, .size = size};
    if (out == NULL || hash == NULL || index == NULL || (uintptr_t)index % sizeof(uint32_t) != 0) {
        return nst_fail(err, NST_E_ARGUMENT, NULL, NULL, 0, 0,
                        NST_TEXT("out, hash or index is null, or index is not aligned"));
    }
    int code = nst_bundle_prefix(data, size, &bundle.prefix, err);
    if (code != NST_OK) {
        return code;
    }
    if (size != bundle.prefix.total_bytes) {
        bool shorter = size < bundle.prefix.total_bytes;
        return fail_prefix(err, shorter ? NST_E_TRUNCATED : NST_E_CORRUPT,
                           bundle.prefix.total_bytes, size,
                           shorter ? NST_TEXT("the bundle is cut short")
                                   : NST_TEXT("bytes follow the bundle's end"));
    }
    bundle.manifest = bundle.data + NST_PREFIX_BYTES;
    bundle.manifest_end = bundle.manifest + bundle.prefix.manifest_bytes;
    bundle.info.manifest_sha256 = bundle.data + 32;
    if (bundle.prefix.signature_bytes > 0) {
        bundle.info.signature = bundle.manifest_end;
        bundle.info.signature_bytes = bundle.prefix.signature_bytes;
        if (!nst_signature_is_well_formed(bundle.info.signature, bundle.info.signature_bytes)) {
            return nst_fail(err, NST_E_SIGNATURE, "signature", NULL, 0, 0,
                            NST_TEXT("the signature is malformed"));
        }
    }
    code = check_manifest_hash(&bundle, hash, err);
    if (code == NST_OK) {
        code = nst_index_manifest(&bundle, index, index_bytes / sizeof(uint32_t), err);
    }
    if (code == NST_OK) {
        *out = bundle;
    }
    return code;
}

int nst_bundle_open(nst_bundle *out, const void *data, size_t size, void *index, size_t index_bytes,
                    const nst_hash_ops *hash, nst_error *err) {
    nst_bundle bundle;
    if (out == NULL) {
        return nst_fail(err, NST_E_ARGUMENT, NULL, NULL, 0, 0, NST_TEXT("out is null"));
    }
    int code = nst_open_head(&bundle, data, size, index, index_bytes, hash, err);
    if (code == NST_OK) {
        code = nst_check_layout(&bundle, err);
    }
    if (code == NST_OK) {
        code = nst_check_references(&bundle, err);
    }
    if (code == NST_OK) {
        *out = bundle;
    }
    return code;
}

static bool has_entry(const nst_bundle *bundle, nst_table table, uint32_t i, const void *out) {
    return bundle != NULL && out != NULL && i < bundle->count[table];
}

int nst_bundle_section(const nst_bundle *bundle, uint32_t i, nst_section_info *out) {
    if (!has_entry(bundle, NST_SECTIONS, i, out)) {
        return NST_E_NOT_FOUND;
    }
    nst_cursor cursor = nst_entry_at(bundle, NST_SECTIONS, i);
    if (!nst_decode_section(&cursor, out) || out->offset > bundle->size ||
        out->size > bundle->size - out->offset) {
        return NST_E_CORRUPT;
    }
    return NST_OK;
}

int nst_bundle_slot(const nst_bundle *bundle, uint32_t i, nst_slot_info *out) {
    if (!has_entry(bundle, NST_SLOTS, i, out)) {
        return NST_E_NOT_FOUND;
    }
    nst_cursor cursor = nst_entry_at(bundle, NST_SLOTS, i);
    return nst_decode_slot(&cursor, out) ? NST_OK : NST_E_CORRUPT;
}

int nst_bundle_constant(const nst_bundle *bundle, uint32_t i, nst_constant_info *out) {
    return has_entry(bundle, NST_CONSTANTS, i, out) ? nst_read_constant(bundle, i, out, NULL)
                                                    : NST_E_NOT_FOUND;
}

int nst_bundle_program(const nst_bundle *bundle, uint32_t i, nst_program_info *out) {
    return has_entry(bundle, NST_PROGRAMS, i, out) ? nst_read_program(bundle, i, out, NULL)
                                                   : NST_E_NOT_FOUND;
}

int nst_bundle_position(const nst_bundle *bundle, uint32_t i, nst_position_info *out) {
    if (!has_entry(bundle, NST_POSITIONS, i, out)) {
        return NST_E_NOT_FOUND;
    }
    nst_cursor cursor = nst_entry_at(bundle, NST_POSITIONS, i);
    return nst_decode_position(&cursor, out) ? NST_OK : NST_E_CORRUPT;
}

int nst_bundle_stage(const nst_bundle *bundle, uint32_t i, nst_stage_info *out) {
    return has_entry(bundle, NST_STAGES, i, out) ? nst_read_stage(bundle, i, out, NULL)
                                                 : NST_E_NOT_FOUND;
}

int nst_bundle_path(const nst_bundle *bundle, uint32_t i, nst_path_info *out) {
    return has_entry(bundle, NST_PATHS, i, out) ? nst_read_path(bundle, i, out, NULL)
                                                : NST_E_NOT_FOUND;
}
