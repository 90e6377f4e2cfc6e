/* First pass over the manifest: where every entry starts, and that no name is there twice. */
#include "reader.h"
#include "sentence.h"
#include "text.h"

int nst_fail_entry(nst_error *err, int code, nst_table table, uint32_t i, uint64_t expected,
                   uint64_t actual, const char *message) {
    nst_fail(err, code, NULL, NULL, expected, actual, message);
    nst_error_entry(err, table, i);
    return code;
}

static int broken(nst_error *err, const char *message) {
    return nst_fail(err, NST_E_CORRUPT, "manifest", NULL, 0, 0, message);
}

typedef struct nst_indexer {
    nst_bundle *bundle;
    nst_cursor cursor;
    uint32_t *entry;
    uint32_t *order;
    uint32_t used;     /* entries so far */
    uint32_t capacity; /* entries that fit into the index */
} nst_indexer;

/* Where the CBOR text that holds a name starts: one byte before it, two from 24 bytes on. */
static size_t head_of(const nst_bundle *bundle, nst_text name) {
    size_t at = (size_t)((const uint8_t *)name.data - bundle->manifest);
    return at - (name.bytes < 24 ? 1 : 2);
}

static int index_table(nst_indexer *to, nst_table table, uint32_t least, uint32_t most,
                       nst_error *err) {
    nst_bundle *bundle = to->bundle;
    nst_text name;
    uint32_t count = 0;
    if (!nst_take_list(&to->cursor, &count)) {
        return nst_fail_entry(err, NST_E_CORRUPT, table, 0, 0, 0,
                              NST_TEXT("the table is not a list, or is longer than the manifest"));
    }
    if (count < least) {
        return nst_fail_entry(err, NST_E_CORRUPT, table, 0, least, count,
                              NST_TEXT("the table has too few entries"));
    }
    if (count > most) {
        return nst_fail_entry(err, NST_E_LIMIT, table, 0, most, count,
                              NST_TEXT("the table has too many entries"));
    }
    bundle->first[table] = to->used;
    bundle->count[table] = count;
    for (uint32_t i = 0; i < count; i++) {
        size_t offset = (size_t)(to->cursor.at - bundle->manifest);
        if (to->used == to->capacity) {
            return nst_fail_entry(err, NST_E_LIMIT, table, i, to->capacity, 0,
                                  NST_TEXT("the index memory is too small"));
        }
        if (!nst_decode_entry(table, &to->cursor, &name)) {
            return nst_fail_entry(err, NST_E_CORRUPT, table, i, 0, 0,
                                  NST_TEXT("the entry is not what the format asks for"));
        }
        to->order[to->used] = i;
        to->entry[2 * (size_t)to->used] = (uint32_t)offset;
        to->entry[2 * (size_t)to->used + 1] = (uint32_t)head_of(bundle, name);
        to->used++;
    }
    return NST_OK;
}

nst_text nst_entry_name(const nst_bundle *bundle, nst_table table, uint32_t i) {
    size_t number = (size_t)bundle->first[table] + i;
    const uint8_t *at = bundle->manifest + bundle->entry[2 * number + 1];
    size_t left = (size_t)(bundle->manifest_end - at);
    size_t head = 1;
    size_t bytes = left > 0 ? (size_t)(at[0] & 0x1F) : 0;
    if (bytes == 24 && left > 1) {
        head = 2;
        bytes = at[1];
    }
    if (bytes > NST_MAX_NAME_BYTES || head + bytes > left) {
        return (nst_text){NULL, 0};
    }
    return (nst_text){(const char *)at + head, bytes};
}

/* Move `order[root]` down until no child of it has a greater name. */
static void sift(const nst_bundle *bundle, nst_table table, uint32_t *order, uint32_t root,
                 uint32_t count) {
    uint32_t moved = order[root];
    nst_text moved_name = nst_entry_name(bundle, table, moved);
    /* A heap of at most 65535 entries: 2 * root + 2 does not wrap. */
    while (2 * root + 1 < count) {
        uint32_t child = 2 * root + 1;
        nst_text child_name = nst_entry_name(bundle, table, order[child]);
        if (child + 1 < count) {
            nst_text right_name = nst_entry_name(bundle, table, order[child + 1]);
            if (nst_text_compare(child_name, right_name) < 0) {
                child++;
                child_name = right_name;
            }
        }
        if (nst_text_compare(moved_name, child_name) >= 0) {
            break;
        }
        order[root] = order[child];
        root = child;
    }
    order[root] = moved;
}

/* Heap sort by name: O(n log n) in place, whatever the names are. */
static void sort_names(const nst_bundle *bundle, nst_table table, uint32_t *order) {
    uint32_t count = bundle->count[table];
    for (uint32_t i = count / 2; i > 0; i--) {
        sift(bundle, table, order, i - 1, count);
    }
    for (uint32_t end = count; end > 1; end--) {
        uint32_t last = order[end - 1];
        order[end - 1] = order[0];
        order[0] = last;
        sift(bundle, table, order, 0, end - 1);
    }
}

static int check_unique(const nst_bundle *bundle, nst_table table, const uint32_t *order,
                        nst_error *err) {
    for (uint32_t i = 1; i < bundle->count[table]; i++) {
        nst_text a = nst_entry_name(bundle, table, order[i - 1]);
        nst_text b = nst_entry_name(bundle, table, order[i]);
        if (nst_text_compare(a, b) == 0) {
            uint32_t low = order[i] < order[i - 1] ? order[i] : order[i - 1];
            uint32_t high = order[i] < order[i - 1] ? order[i - 1] : order[i];
            nst_fail_entry(err, NST_E_CORRUPT, table, high, 0, 0, NULL);
            nst_error_stage(err, b);
            if (err != NULL) {
                nst_writer writer;
                nst_writer_start(&writer, err->message, sizeof err->message);
                nst_write(&writer, NST_TEXT("the name is taken by entry "));
                nst_write_number(&writer, low);
            }
            return NST_E_CORRUPT;
        }
    }
    return NST_OK;
}

static bool take_head_name(nst_cursor *cursor, const char *key, nst_text *out) {
    return nst_take_key(cursor, key) && nst_take_name(cursor, out);
}

int nst_index_manifest(nst_bundle *bundle, uint32_t *index, size_t words, nst_error *err) {
    nst_bundle_info *info = &bundle->info;
    uint32_t members = 0;
    size_t entries = words / 3; /* two words where the entry is, one for its place in the order */
    nst_indexer to = {
        .bundle = bundle,
        .cursor = {bundle->manifest, bundle->manifest_end},
        .entry = index,
        .order = index + 2 * entries,
        .used = 0,
        .capacity = entries > UINT32_MAX ? UINT32_MAX : (uint32_t)entries,
    };
    nst_cursor *cursor = &to.cursor;
    int code;
    bundle->entry = to.entry;
    bundle->order = to.order;

    /* The members of the map stand in canonical order, see manifest.cddl. */
    if (!nst_take_map(cursor, &members) || members != 13) {
        return broken(err, NST_TEXT("the manifest is not a map of 13 members"));
    }
    if (!nst_take_key(cursor, "meta") || !nst_decode_notes(cursor, &info->meta)) {
        return broken(err,
                      NST_TEXT("meta is not a map of names to plain values in canonical order"));
    }
    if (!take_head_name(cursor, "name", &info->name) || !nst_take_key(cursor, "paths")) {
        return broken(err, NST_TEXT("name or paths is missing or is not what the format asks for"));
    }
    if ((code = index_table(&to, NST_PATHS, 1, NST_MAX_PATHS, err)) != NST_OK) {
        return code;
    }
    if (!nst_take_key(cursor, "slots")) {
        return broken(err, NST_TEXT("slots is missing"));
    }
    if ((code = index_table(&to, NST_SLOTS, 1, NST_MAX_SLOTS, err)) != NST_OK) {
        return code;
    }
    if (!take_head_name(cursor, "family", &info->family) ||
        !take_head_name(cursor, "scheme", &info->scheme) || !nst_take_key(cursor, "stages")) {
        return broken(
            err,
            NST_TEXT("family, scheme or stages is missing or is not what the format asks for"));
    }
    if ((code = index_table(&to, NST_STAGES, 1, NST_MAX_STAGES, err)) != NST_OK) {
        return code;
    }
    if (!take_head_name(cursor, "target", &info->target) ||
        !take_head_name(cursor, "producer", &info->producer) || !nst_take_key(cursor, "programs")) {
        return broken(
            err,
            NST_TEXT("target, producer or programs is missing or is not what the format asks for"));
    }
    if ((code = index_table(&to, NST_PROGRAMS, 1, NST_MAX_PROGRAMS, err)) != NST_OK) {
        return code;
    }
    if (!nst_take_key(cursor, "sections")) {
        return broken(err, NST_TEXT("sections is missing"));
    }
    if ((code = index_table(&to, NST_SECTIONS, 1, NST_MAX_SECTIONS, err)) != NST_OK) {
        return code;
    }
    if (!nst_take_key(cursor, "constants")) {
        return broken(err, NST_TEXT("constants is missing"));
    }
    if ((code = index_table(&to, NST_CONSTANTS, 0, NST_MAX_CONSTANTS, err)) != NST_OK) {
        return code;
    }
    if (!nst_take_key(cursor, "positions")) {
        return broken(err, NST_TEXT("positions is missing"));
    }
    if ((code = index_table(&to, NST_POSITIONS, 1, NST_MAX_POSITIONS, err)) != NST_OK) {
        return code;
    }
    if (cursor->at != cursor->end) {
        return broken(err, NST_TEXT("bytes follow the manifest's last member"));
    }
    for (uint32_t t = 0; t < NST_TABLES; t++) {
        nst_table table = (nst_table)t;
        uint32_t *order = to.order + bundle->first[table];
        if (table == NST_PROGRAMS) {
            continue; /* methods need no names of their own */
        }
        sort_names(bundle, table, order);
        if ((code = check_unique(bundle, table, order, err)) != NST_OK) {
            return code;
        }
    }
    return NST_OK;
}

uint32_t nst_bundle_find(const nst_bundle *bundle, nst_table table, const char *name,
                         size_t bytes) {
    nst_text wanted = {name, bytes};
    if (bundle == NULL || name == NULL || (unsigned)table >= NST_TABLES || table == NST_PROGRAMS) {
        return NST_NONE;
    }
    const uint32_t *order = bundle->order + bundle->first[table];
    uint32_t low = 0;
    uint32_t high = bundle->count[table];
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int side = nst_text_compare(nst_entry_name(bundle, table, order[middle]), wanted);
        if (side == 0) {
            return order[middle];
        }
        if (side < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NST_NONE;
}
