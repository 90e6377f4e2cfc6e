/* Strict reader of `.nest` bundles (SPEC.md). C11, no heap, no recursion, no operating system.
 *
 * The caller owns everything: the bytes of the file (mapped or in memory), which must stay readable
 * and unchanged while the reader is in use, and the index, a piece of memory in which the reader
 * keeps where each table entry starts:
 *
 *     nst_prefix prefix;
 *     nst_bundle_prefix(data, size, &prefix, &err);           // only needs the first 64 bytes
 *     size_t bytes = nst_bundle_index_bytes(&prefix);
 *     nst_bundle bundle;
 *     nst_bundle_open(&bundle, data, size, malloc(bytes), bytes, &nst_hash_sodium, &err);
 *
 * `nst_bundle_open` checks the whole manifest and the layout of the file, so that every getter
 * below gives values that are in range. It does not read the sections: call
 * `nst_bundle_check_section` before the bytes of a section are trusted. After opening, the reader
 * is read-only: any number of threads may use one `nst_bundle`. Getters decode the entry again, in
 * O(size of the entry); keep what you need.
 *
 * A bundle may lie in a larger file (an Android asset): `data` then points at its first byte.
 */
#ifndef NESTLING_CORE_BUNDLE_H
#define NESTLING_CORE_BUNDLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define NST_FORMAT_VERSION 2u /* the newest; a reader takes all from 1 on */
#define NST_PREFIX_BYTES 64u
#define NST_HASH_BYTES 32u           /* SHA-256 */
#define NST_SECTION_ALIGNMENT 16384u /* of sections in the file, bytes */
#define NST_ITEM_ALIGNMENT 64u       /* of programs and constants in their section, bytes */

/* Limits of the format; a file over one of them is refused with NST_E_LIMIT. */
#define NST_MAX_MANIFEST_BYTES (64u << 20)
#define NST_MAX_UNPACKED_BYTES (64u << 20) /* of one program */
#define NST_MAX_NAME_BYTES 127u
#define NST_MAX_DIMS 16u
#define NST_MAX_SECTIONS 256u
#define NST_MAX_SLOTS 4096u
#define NST_MAX_CONSTANTS 65535u
#define NST_MAX_PROGRAMS 4096u
#define NST_MAX_POSITIONS 4096u
#define NST_MAX_STAGES 8192u
#define NST_MAX_PATHS 1024u
#define NST_MAX_TARGETS 16u

#define NST_NONE UINT32_MAX /* "no such index", as in nst_path_info.fused */

/* SHA-256 of the platform. Functions return 0, or non-zero when the hardware failed. */
typedef struct nst_hash_state {
    uint64_t words[32]; /* room for the state of any implementation, 256 bytes */
} nst_hash_state;

typedef struct nst_hash_ops {
    int (*init)(nst_hash_state *state);
    int (*update)(nst_hash_state *state, const void *data, size_t bytes);
    int (*final)(nst_hash_state *state, uint8_t digest[NST_HASH_BYTES]);
} nst_hash_ops;

/* Text inside the bundle: UTF-8, not zero-terminated, valid as long as the bundle's bytes are. */
typedef struct nst_text {
    const char *data;
    size_t bytes;
} nst_text;

/* A list inside the manifest, read front to back with the nst_list_next_* functions. A copy of the
 * struct is a second, independent reader. */
typedef struct nst_list {
    const uint8_t *at;
    const uint8_t *end;
    uint32_t count; /* elements not read yet */
    uint32_t below; /* every index in the list is less than this */
} nst_list;

typedef enum nst_section_kind { NST_PROGRAM = 0, NST_BLOB = 1, NST_DATA = 2 } nst_section_kind;

typedef enum nst_dtype {
    NST_F32 = 0,
    NST_F16 = 1,
    NST_I64 = 2,
    NST_I32 = 3,
    NST_U8 = 4,
    NST_I8 = 5,
    NST_BOOL = 6
} nst_dtype;

typedef enum nst_role {
    NST_INPUT = 0,   /* the caller binds it before a run */
    NST_OUTPUT = 1,  /* the caller may read it after a run */
    NST_STATE = 2,   /* survives from run to run; starts as zeros */
    NST_INTERNAL = 3 /* lives between two stages of one run */
} nst_role;

/* The first 64 bytes of the file; SPEC.md promises that they never change their meaning. */
typedef struct nst_prefix {
    uint32_t format_version;
    uint32_t signature_bytes; /* 0: not signed */
    uint64_t manifest_bytes;
    uint64_t total_bytes; /* of the whole bundle */
    uint8_t manifest_sha256[NST_HASH_BYTES];
} nst_prefix;

typedef struct nst_section_info {
    nst_text name;
    nst_section_kind kind;
    uint64_t offset; /* from the start of the bundle, a multiple of NST_SECTION_ALIGNMENT */
    uint64_t size;   /* bytes, at least 1 */
    const uint8_t *sha256;
    bool has_level;
    uint32_t level; /* nesting level whose increment the blob holds; 0 unless has_level */
} nst_section_info;

typedef struct nst_slot_info {
    nst_text name;
    nst_dtype dtype;
    nst_role role;
    uint32_t rank;                /* 0 for a scalar */
    uint32_t shape[NST_MAX_DIMS]; /* each at least 1 */
    uint32_t append;              /* the state slot whose next rows it is, or NST_NONE */
    uint64_t bytes;               /* product of shape x size of dtype */
} nst_slot_info;

typedef struct nst_constant_info {
    nst_text key;
    uint32_t section;
    uint64_t offset;     /* in the section, a multiple of NST_ITEM_ALIGNMENT */
    uint64_t size;       /* bytes, at least 1 */
    const uint8_t *data; /* in the bundle's bytes */
    bool has_layout;     /* the three below are set; their bytes are then exactly `size` */
    nst_dtype dtype;
    uint32_t rank;
    uint32_t shape[NST_MAX_DIMS];
    uint8_t dim_order[NST_MAX_DIMS]; /* a permutation of 0..rank-1, outermost first */
} nst_constant_info;

typedef struct nst_program_info {
    uint32_t section;
    uint64_t offset; /* in the section, a multiple of NST_ITEM_ALIGNMENT */
    uint64_t size;   /* bytes as stored, at least 1 */
    uint64_t
        unpacked_bytes; /* of the .pte inside the zlib stream that is stored; 0: stored as it is */
    const uint8_t *data;
    nst_text method;
    nst_text target; /* what it was lowered for; empty: the bundle's target, see core/targets.h */
} nst_program_info;

typedef struct nst_position_info {
    nst_text name;
    uint32_t layer;
    bool required; /* a path must cover it; a part: where the path covers what it is part of */
    bool part;     /* of the block that begins at the last position before it that is no part */
} nst_position_info;

typedef struct nst_stage_info {
    nst_text name;
    uint32_t program;
    uint32_t first; /* positions first..last, both included */
    uint32_t last;
    uint32_t level;
    uint32_t bits;
    uint64_t macs;        /* multiply-accumulates of one call */
    uint64_t arena_bytes; /* planned activation memory */
    nst_list inputs;      /* slots, in the order of the method's arguments: nst_list_next_index */
    nst_list outputs;     /* slots, in the order of the method's results */
    nst_list bindings;    /* constants that the program asks for by name: nst_list_next_binding */
} nst_stage_info;

typedef struct nst_path_info {
    nst_text name;
    nst_list chain; /* stages: nst_list_next_index */
    uint32_t fused; /* one stage that computes the whole path, or NST_NONE */
    uint64_t parameters;
    uint64_t macs;
    uint64_t weight_bytes;
    nst_list quality; /* metric name -> value: nst_list_next_figure */
    nst_list cost_us; /* where it was measured -> microseconds: nst_list_next_figure */
} nst_path_info;

typedef enum nst_note_type {
    NST_NOTE_NULL = 0,
    NST_NOTE_BOOL = 1,
    NST_NOTE_UINT = 2,
    NST_NOTE_INT = 3, /* negative */
    NST_NOTE_FLOAT = 4,
    NST_NOTE_TEXT = 5
} nst_note_type;

typedef struct nst_note {
    nst_text name;
    nst_note_type type;
    bool boolean;
    uint64_t uint_value;
    int64_t int_value;
    double float_value;
    nst_text text;
} nst_note;

/* Head of the manifest: what is not a table. */
typedef struct nst_bundle_info {
    nst_text name;
    nst_text producer;        /* program and version that wrote the bundle */
    nst_text target;          /* of programs that name none of their own: "xnnpack" */
    nst_text scheme;          /* "fp32", "int8-static", ... */
    nst_text family;          /* "vit", "bert", "mobilenet_v2", "llama", "custom" */
    nst_list meta;            /* free notes: nst_list_next_note */
    const uint8_t *signature; /* COSE_Sign1, or null */
    size_t signature_bytes;
    const uint8_t *manifest_sha256; /* what the signature signs */
} nst_bundle_info;

typedef enum nst_table {
    NST_SECTIONS = 0,
    NST_SLOTS = 1,
    NST_CONSTANTS = 2,
    NST_PROGRAMS = 3,
    NST_POSITIONS = 4,
    NST_STAGES = 5,
    NST_PATHS = 6,
    NST_TABLES = 7
} nst_table;

/* The reader's state. Only `count` is for callers: entries of each table. */
typedef struct nst_bundle {
    const uint8_t *data;
    size_t size;
    const uint8_t *manifest;
    const uint8_t *manifest_end;
    uint32_t count[NST_TABLES];
    uint32_t first[NST_TABLES]; /* where the table starts in `entry` and `order` */
    const uint32_t
        *entry; /* [all entries][2] where each entry starts in the manifest, and its name */
    const uint32_t *order; /* [all entries] entry numbers of each table, sorted by name */
    nst_prefix prefix;
    nst_bundle_info info;
} nst_bundle;

/* Read the prefix. Needs only the first NST_PREFIX_BYTES bytes in `data`.
 * NST_E_TRUNCATED, NST_E_FOREIGN, NST_E_VERSION, NST_E_LIMIT, NST_E_CORRUPT (sizes that do not fit
 * together). */
int nst_bundle_prefix(const void *data, size_t size, nst_prefix *out, nst_error *err);

/* Bytes of index memory that are enough for any manifest of this size: less than half of
 * `manifest_bytes` plus a few. */
size_t nst_bundle_index_bytes(const nst_prefix *prefix);

/* Check the bundle and open it. `size` is the number of bytes at `data` and must be exactly the
 * bundle's total_bytes. `index` must be 4-byte aligned and must outlive the bundle. Nothing else to
 * free. NST_E_ARGUMENT, NST_E_FOREIGN, NST_E_VERSION, NST_E_TRUNCATED, NST_E_HASH (of the
 * manifest), NST_E_CORRUPT, NST_E_SIGNATURE (malformed; who signed is the business of signature.h),
 * NST_E_LIMIT, NST_E_PATH (a path of the bundle is not legal). */
int nst_bundle_open(nst_bundle *out, const void *data, size_t size, void *index, size_t index_bytes,
                    const nst_hash_ops *hash, nst_error *err);

/* Hash one section, compare, and check that the alignment padding in it is zero (the padding
 * between sections was checked when the bundle was opened). Reads every byte of it. NST_E_HASH,
 * NST_E_CORRUPT, NST_E_NOT_FOUND. */
int nst_bundle_check_section(const nst_bundle *bundle, uint32_t section, const nst_hash_ops *hash,
                             nst_error *err);

/* Entry `i` of a table: NST_OK, NST_E_NOT_FOUND (i is out of range), NST_E_CORRUPT (the bytes were
 * changed after opening). */
int nst_bundle_section(const nst_bundle *bundle, uint32_t i, nst_section_info *out);
int nst_bundle_slot(const nst_bundle *bundle, uint32_t i, nst_slot_info *out);
int nst_bundle_constant(const nst_bundle *bundle, uint32_t i, nst_constant_info *out);
int nst_bundle_program(const nst_bundle *bundle, uint32_t i, nst_program_info *out);
int nst_bundle_position(const nst_bundle *bundle, uint32_t i, nst_position_info *out);
int nst_bundle_stage(const nst_bundle *bundle, uint32_t i, nst_stage_info *out);
int nst_bundle_path(const nst_bundle *bundle, uint32_t i, nst_path_info *out);

/* Index of the entry of that name (constants: key; programs have no name), or NST_NONE.
 * O(log entries). */
uint32_t nst_bundle_find(const nst_bundle *bundle, nst_table table, const char *name, size_t bytes);

/* Next element of a list. NST_OK; NST_E_END when none is left; NST_E_CORRUPT (the bytes were
 * changed after opening). */
int nst_list_next_index(nst_list *list, uint32_t *out_index);
int nst_list_next_figure(nst_list *list, nst_text *out_name, double *out_value);
int nst_list_next_note(nst_list *list, nst_note *out);

/* `out_name` is the name that the program asks for; it is the constant's key unless the bundle says
 * otherwise. */
int nst_list_next_binding(const nst_bundle *bundle, nst_list *list, nst_text *out_name,
                          uint32_t *out_constant);

/* Bytes of one element of a dtype: 4, 2, 8, 4, 1, 1, 1. */
size_t nst_dtype_bytes(nst_dtype dtype);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
