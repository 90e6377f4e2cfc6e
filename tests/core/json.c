#include "json.h"

#include <inttypes.h>
#include <string.h>

void json_text(FILE *to, nst_text text) {
    fputc('"', to);
    for (size_t i = 0; i < text.bytes; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c == '"' || c == '\\') {
            fprintf(to, "\\%c", c);
        } else if (c < 0x20) {
            fprintf(to, "\\u%04x", c);
        } else {
            fputc(c, to);
        }
    }
    fputc('"', to);
}

void json_string(FILE *to, const char *text) {
    json_text(to, (nst_text){text, strlen(text)});
}

void json_hex(FILE *to, const uint8_t *data, size_t bytes) {
    fputc('"', to);
    for (size_t i = 0; i < bytes; i++) {
        fprintf(to, "%02x", data[i]);
    }
    fputc('"', to);
}

void json_error(FILE *to, int code, const nst_error *err) {
    fprintf(to, "{\"code\": \"%s\", \"section\": ", nst_code_name(code));
    json_string(to, err->section);
    fputs(", \"stage\": ", to);
    json_string(to, err->stage);
    fprintf(to,
            ", \"expected\": %" PRIu64 ", \"actual\": %" PRIu64 ", \"message\": ", err->expected,
            err->actual);
    json_string(to, err->message);
    fputc('}', to);
}

static const char *const dtypes[] = {"f32", "f16", "i64", "i32", "u8", "i8", "bool"};
static const char *const roles[] = {"input", "output", "state", "internal"};
static const char *const kinds[] = {"program", "blob", "data"};

static void member(FILE *to, const char *key) {
    fprintf(to, ", \"%s\": ", key);
}

static void number(FILE *to, const char *key, uint64_t value) {
    member(to, key);
    fprintf(to, "%" PRIu64, value);
}

static void shape(FILE *to, const char *key, const uint32_t *dims, uint32_t rank) {
    member(to, key);
    fputc('[', to);
    for (uint32_t i = 0; i < rank; i++) {
        fprintf(to, "%s%" PRIu32, i > 0 ? ", " : "", dims[i]);
    }
    fputc(']', to);
}

static void indexes(FILE *to, const char *key, nst_list list) {
    uint32_t index;
    const char *comma = "";
    member(to, key);
    fputc('[', to);
    while (nst_list_next_index(&list, &index) == NST_OK) {
        fprintf(to, "%s%" PRIu32, comma, index);
        comma = ", ";
    }
    fputc(']', to);
}

static void figures(FILE *to, const char *key, nst_list list) {
    nst_text name;
    double value;
    const char *comma = "";
    member(to, key);
    fputc('{', to);
    while (nst_list_next_figure(&list, &name, &value) == NST_OK) {
        fputs(comma, to);
        json_text(to, name);
        fprintf(to, ": %.17g", value);
        comma = ", ";
    }
    fputc('}', to);
}

static int section(FILE *to, const nst_bundle *bundle, uint32_t i) {
    nst_section_info info;
    int code = nst_bundle_section(bundle, i, &info);
    if (code != NST_OK) {
        return code;
    }
    fputs("{\"name\": ", to);
    json_text(to, info.name);
    fprintf(to, ", \"kind\": \"%s\"", kinds[info.kind]);
    number(to, "offset", info.offset);
    number(to, "size", info.size);
    if (info.has_level) {
        number(to, "level", info.level);
    }
    member(to, "sha256");
    json_hex(to, info.sha256, NST_HASH_BYTES);
    fputc('}', to);
    return NST_OK;
}

static int slot(FILE *to, const nst_bundle *bundle, uint32_t i) {
    nst_slot_info info;
    int code = nst_bundle_slot(bundle, i, &info);
    if (code != NST_OK) {
        return code;
    }
    fputs("{\"name\": ", to);
    json_text(to, info.name);
    fprintf(to, ", \"dtype\": \"%s\", \"role\": \"%s\"", dtypes[info.dtype], roles[info.role]);
    shape(to, "shape", info.shape, info.rank);
    number(to, "bytes", info.bytes);
    if (info.append != NST_NONE) {
        number(to, "append", info.append);
    }
    fputc('}', to);
    return NST_OK;
}

static int constant(FILE *to, const nst_bundle *bundle, uint32_t i) {
    nst_constant_info info;
    int code = nst_bundle_constant(bundle, i, &info);
    if (code != NST_OK) {
        return code;
    }
    fputs("{\"key\": ", to);
    json_text(to, info.key);
    number(to, "section", info.section);
    number(to, "offset", info.offset);
    number(to, "size", info.size);
    if (info.has_layout) {
        uint32_t order[NST_MAX_DIMS];
        for (uint32_t dim = 0; dim < info.rank; dim++) {
            order[dim] = info.dim_order[dim];
        }
        fprintf(to, ", \"dtype\": \"%s\"", dtypes[info.dtype]);
        shape(to, "shape", info.shape, info.rank);
        shape(to, "dim_order", order, info.rank);
    }
    member(to, "data");
    json_hex(to, info.data, info.size < 64 ? (size_t)info.size : 64);
    fputc('}', to);
    return NST_OK;
}

static int program(FILE *to, const nst_bundle *bundle, uint32_t i) {
    nst_program_info info;
    int code = nst_bundle_program(bundle, i, &info);
    if (code != NST_OK) {
        return code;
    }
    fputs("{\"method\": ", to);
    json_text(to, info.method);
    number(to, "section", info.section);
    number(to, "offset", info.offset);
    number(to, "size", info.size);
    if (info.unpacked_bytes != 0) {
        number(to, "unpacked", info.unpacked_bytes);
    }
    if (info.target.bytes != 0) {
        member(to, "target");
        json_text(to, info.target);
    }
    member(to, "data");
    json_hex(to, info.data, info.size < 64 ? (size_t)info.size : 64);
    fputc('}', to);
    return NST_OK;
}

static int position(FILE *to, const nst_bundle *bundle, uint32_t i) {
    nst_position_info info;
    int code = nst_bundle_position(bundle, i, &info);
    if (code != NST_OK) {
        return code;
    }
    fputs("{\"name\": ", to);
    json_text(to, info.name);
    number(to, "layer", info.layer);
    fprintf(to, ", \"required\": %s", info.required ? "true" : "false");
    fprintf(to, ", \"part\": %s}", info.part ? "true" : "false");
    return NST_OK;
}

static int stage(FILE *to, const nst_bundle *bundle, uint32_t i) {
    nst_stage_info info;
    nst_text name;
    uint32_t bound;
    const char *comma = "";
    int code = nst_bundle_stage(bundle, i, &info);
    if (code != NST_OK) {
        return code;
    }
    fputs("{\"name\": ", to);
    json_text(to, info.name);
    number(to, "program", info.program);
    number(to, "first", info.first);
    number(to, "last", info.last);
    number(to, "level", info.level);
    number(to, "bits", info.bits);
    number(to, "macs", info.macs);
    number(to, "arena_bytes", info.arena_bytes);
    indexes(to, "inputs", info.inputs);
    indexes(to, "outputs", info.outputs);
    member(to, "bindings");
    fputc('[', to);
    while (nst_list_next_binding(bundle, &info.bindings, &name, &bound) == NST_OK) {
        fprintf(to, "%s[", comma);
        json_text(to, name);
        fprintf(to, ", %" PRIu32 "]", bound);
        comma = ", ";
    }
    fputs("]}", to);
    return NST_OK;
}

static int path(FILE *to, const nst_bundle *bundle, uint32_t i) {
    nst_path_info info;
    int code = nst_bundle_path(bundle, i, &info);
    if (code != NST_OK) {
        return code;
    }
    fputs("{\"name\": ", to);
    json_text(to, info.name);
    indexes(to, "chain", info.chain);
    if (info.fused != NST_NONE) {
        number(to, "fused", info.fused);
    }
    number(to, "parameters", info.parameters);
    number(to, "macs", info.macs);
    number(to, "weight_bytes", info.weight_bytes);
    figures(to, "quality", info.quality);
    figures(to, "cost_us", info.cost_us);
    fputc('}', to);
    return NST_OK;
}

static void notes(FILE *to, nst_list list) {
    nst_note note;
    const char *comma = "";
    fputc('{', to);
    while (nst_list_next_note(&list, &note) == NST_OK) {
        fputs(comma, to);
        json_text(to, note.name);
        fputs(": ", to);
        switch (note.type) {
            case NST_NOTE_NULL:
                fputs("null", to);
                break;
            case NST_NOTE_BOOL:
                fputs(note.boolean ? "true" : "false", to);
                break;
            case NST_NOTE_UINT:
                fprintf(to, "%" PRIu64, note.uint_value);
                break;
            case NST_NOTE_INT:
                fprintf(to, "%" PRId64, note.int_value);
                break;
            case NST_NOTE_FLOAT:
                fprintf(to, "{\"float\": %.17g}", note.float_value);
                break;
            case NST_NOTE_TEXT:
                json_text(to, note.text);
                break;
        }
        comma = ", ";
    }
    fputc('}', to);
}

typedef int (*dump_fn)(FILE *to, const nst_bundle *bundle, uint32_t i);

int json_bundle(FILE *to, const nst_bundle *bundle) {
    static const char *const names[NST_TABLES] = {"sections",  "slots",  "constants", "programs",
                                                  "positions", "stages", "paths"};
    static const dump_fn dump[NST_TABLES] = {section,  slot,  constant, program,
                                             position, stage, path};
    const nst_bundle_info *info = &bundle->info;
    int code = NST_OK;
    fputs("{\"name\": ", to);
    json_text(to, info->name);
    member(to, "producer");
    json_text(to, info->producer);
    member(to, "target");
    json_text(to, info->target);
    member(to, "scheme");
    json_text(to, info->scheme);
    member(to, "family");
    json_text(to, info->family);
    number(to, "signature_bytes", info->signature_bytes);
    for (int table = 0; table < NST_TABLES; table++) {
        member(to, names[table]);
        fputc('[', to);
        for (uint32_t i = 0; code == NST_OK && i < bundle->count[table]; i++) {
            fputs(i > 0 ? ", " : "", to);
            code = dump[table](to, bundle, i);
        }
        fputc(']', to);
    }
    member(to, "meta");
    notes(to, info->meta);
    fputc('}', to);
    return code;
}
