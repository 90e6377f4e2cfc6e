#include "expert_index.h"

#include "checked.h"
#include "sentence.h"
#include "text.h"

/* Where the fields of the header and of a layer lie. */
enum {
    HEADER_MAGIC = 0,
    HEADER_VERSION = 4,
    HEADER_SLICES = 6,
    HEADER_LAYERS = 8,
    HEADER_EXPERTS = 12,
    HEADER_SLOT_BYTES = 16,
    HEADER_LAYER_TABLE = 20,
    HEADER_SLICE_TABLE = 24,
    HEADER_TOTAL_BYTES = 28,
    HEADER_END = 32,
    LAYER_PREDICTOR = 40,
    LAYER_END = 44
};

static const char SECTION[] = "experts";

static uint32_t u16_at(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}

static uint32_t u32_at(const uint8_t *at) {
    return u16_at(at) | u16_at(at + 2) << 16;
}

static uint64_t u64_at(const uint8_t *at) {
    return u32_at(at) | (uint64_t)u32_at(at + 4) << 32;
}

static bool zeros(const uint8_t *at, size_t bytes) {
    uint8_t all = 0;
    for (size_t i = 0; i < bytes; i++) {
        all |= at[i];
    }
    return all == 0;
}

static int refuse(nst_error *err, int code, uint64_t expected, uint64_t actual,
                  const char *message) {
    return nst_fail(err, code, SECTION, NULL, expected, actual, message);
}

/* The same about one entry: "layer 3: ..." */
static int refuse_entry(nst_error *err, const char *what, uint32_t number, uint64_t expected,
                        uint64_t actual, const char *message) {
    char text[NST_ERROR_MESSAGE_BYTES];
    nst_writer writer;
    nst_writer_start(&writer, text, sizeof text);
    nst_write(&writer, what);
    nst_write_number(&writer, number);
    nst_write(&writer, NST_TEXT(": "));
    nst_write(&writer, message);
    return refuse(err, NST_E_CORRUPT, expected, actual, text);
}

static int refuse_layer(nst_error *err, uint32_t layer, uint64_t expected, uint64_t actual,
                        const char *message) {
    return refuse_entry(err, NST_TEXT("layer "), layer, expected, actual, message);
}

/* The next array of a slice: where it starts, given where the one before it ends. Within the limits
 * nothing wraps: an array has less than 2^34 bytes. */
static uint64_t aligned_array(uint64_t end) {
    return (end + NST_EXPERT_ARRAY_ALIGNMENT - 1) & ~(uint64_t)(NST_EXPERT_ARRAY_ALIGNMENT - 1);
}

uint64_t nst_expert_layer_slice_bytes(const nst_expert_layer *layer, uint32_t slice) {
    const bool gated = (layer->flags & NST_EXPERT_GATED) != 0;
    const bool nibbles = layer->format == NST_EXPERT_NIBBLES;
    const uint64_t weights = (uint64_t)layer->dim * layer->hidden; /* of each matrix */
    uint64_t end = 0;
    if (slice >= (nibbles ? 2u : 1u)) {
        return 0;
    }
    for (uint32_t matrix = 0; matrix < (gated ? 3u : 2u); matrix++) {
        if (!nibbles) {
            end = aligned_array(end) + weights * 4;
            continue;
        }
        if (slice == 0) {
            end = aligned_array(end) + (uint64_t)layer->hidden * (layer->dim / layer->group) * 2;
        }
        end = aligned_array(end) + weights / 2;
    }
    if ((layer->flags & NST_EXPERT_BIASES) != 0 && slice == 0) {
        for (uint32_t matrix = gated ? 0u : 1u; matrix < 3; matrix++) {
            end = aligned_array(end) + 4 * (uint64_t)(matrix == 2 ? layer->dim : layer->hidden);
        }
    }
    return end;
}

static void read_layer(const uint8_t *at, const uint8_t *data, nst_expert_layer *out) {
    const uint32_t predictor = u32_at(at + LAYER_PREDICTOR);
    out->dim = u32_at(at);
    out->hidden = u32_at(at + 4);
    out->experts = u32_at(at + 8);
    out->top_k = u32_at(at + 12);
    out->first_expert = u32_at(at + 16);
    out->format = u32_at(at + 20);
    out->group = u32_at(at + 24);
    out->activation = u32_at(at + 28);
    out->flags = u32_at(at + 32);
    out->predicted_layer = u32_at(at + 36);
    out->predictor = predictor != 0 ? (const float *)(const void *)(data + predictor) : NULL;
}

static int check_shape(const nst_expert_index *index, uint32_t number,
                       const nst_expert_layer *layer, nst_error *err) {
    if (layer->dim == 0 || layer->dim > NST_MAX_EXPERT_UNITS || layer->hidden == 0 ||
        layer->hidden > NST_MAX_EXPERT_UNITS) {
        return refuse_layer(err, number, NST_MAX_EXPERT_UNITS,
                            layer->dim > layer->hidden ? layer->dim : layer->hidden,
                            NST_TEXT("its sizes are 0 or too large"));
    }
    if (layer->experts == 0 || layer->experts > NST_MAX_EXPERTS) {
        return refuse_layer(err, number, NST_MAX_EXPERTS, layer->experts,
                            NST_TEXT("it has no or too many experts"));
    }
    if (layer->top_k == 0 || layer->top_k > layer->experts) {
        return refuse_layer(err, number, layer->experts, layer->top_k,
                            NST_TEXT("tokens go to no expert, or to more than there are"));
    }
    if (layer->format > NST_EXPERT_NIBBLES || layer->activation > NST_EXPERT_GELU_TANH ||
        (layer->flags & ~(NST_EXPERT_GATED | NST_EXPERT_RENORMALISE | NST_EXPERT_BIASES)) != 0) {
        return refuse_layer(err, number, 0, 0,
                            NST_TEXT("its format, activation or flags are unknown"));
    }
    if (layer->format == NST_EXPERT_F32
            ? layer->group != 0
            : layer->group == 0 || layer->group % 2 != 0 || layer->dim % layer->group != 0 ||
                  layer->hidden % layer->group != 0) {
        return refuse_layer(err, number, 0, layer->group,
                            NST_TEXT("its group is odd or does not divide its sizes"));
    }
    if (layer->format == NST_EXPERT_NIBBLES && index->slices != NST_MAX_EXPERT_SLICES) {
        return refuse_layer(err, number, NST_MAX_EXPERT_SLICES, index->slices,
                            NST_TEXT("nibbles need two slices"));
    }
    return NST_OK;
}

static int check_layers(nst_expert_index *index, nst_error *err) {
    uint32_t first = 0;
    for (uint32_t i = 0; i < index->layers; i++) {
        const uint8_t *at = index->data + index->layer_table + NST_EXPERT_LAYER_BYTES * i;
        nst_expert_layer layer;
        int code;
        read_layer(at, index->data, &layer);
        code = check_shape(index, i, &layer, err);
        if (code != NST_OK) {
            return code;
        }
        if (layer.first_expert != first || layer.experts > index->experts - first) {
            return refuse_layer(err, i, first, layer.first_expert,
                                NST_TEXT("its experts do not follow those of the layer before"));
        }
        if (!zeros(at + LAYER_END, NST_EXPERT_LAYER_BYTES - LAYER_END)) {
            return refuse_layer(err, i, 0, 0, NST_TEXT("its reserved bytes are not zero"));
        }
        first += layer.experts;
        index->most_experts =
            layer.experts > index->most_experts ? layer.experts : index->most_experts;
        index->most_top_k = layer.top_k > index->most_top_k ? layer.top_k : index->most_top_k;
    }
    if (first != index->experts) {
        return refuse(err, NST_E_CORRUPT, index->experts, first,
                      NST_TEXT("the layers have another number of experts than the header says"));
    }
    return NST_OK;
}

/* Predictors lie behind the tables. Called when all layers have been checked. */
static int check_predictors(const nst_expert_index *index, size_t size, nst_error *err) {
    const uint64_t tables = (uint64_t)index->slice_table +
                            (uint64_t)index->experts * index->slices * NST_EXPERT_SLICE_BYTES;
    for (uint32_t i = 0; i < index->layers; i++) {
        const uint8_t *at = index->data + index->layer_table + NST_EXPERT_LAYER_BYTES * i;
        const uint32_t offset = u32_at(at + LAYER_PREDICTOR);
        nst_expert_layer layer;
        nst_expert_layer other;
        uint64_t end;
        read_layer(at, index->data, &layer);
        if ((layer.predicted_layer == NST_NONE) != (offset == 0)) {
            return refuse_layer(err, i, 0, offset,
                                NST_TEXT("a predictor and what it is for come together"));
        }
        if (offset == 0) {
            continue;
        }
        if (layer.predicted_layer == i ||
            !nst_expert_index_layer(index, layer.predicted_layer, &other)) {
            return refuse_layer(err, i, index->layers, layer.predicted_layer,
                                NST_TEXT("it predicts itself, or a layer that is not there"));
        }
        end = offset + ((uint64_t)layer.dim + 1) * other.experts * sizeof(float);
        if (offset % NST_EXPERT_ARRAY_ALIGNMENT != 0 || offset < tables || end > size) {
            return refuse_layer(err, i, size, end,
                                NST_TEXT("its predictor lies outside of its place"));
        }
    }
    return NST_OK;
}

static int check_slices(const nst_expert_index *index,
                        const uint64_t section_bytes[NST_MAX_EXPERT_SLICES], nst_error *err) {
    uint64_t largest = 0;
    for (uint32_t i = 0; i < index->layers; i++) {
        nst_expert_layer layer;
        (void)nst_expert_index_layer(index, i, &layer);
        for (uint32_t slice = 0; slice < index->slices; slice++) {
            const uint64_t bytes = nst_expert_layer_slice_bytes(&layer, slice);
            largest = bytes > largest ? bytes : largest;
            for (uint32_t e = layer.first_expert; e < layer.first_expert + layer.experts; e++) {
                nst_expert_slice found;
                uint64_t end;
                (void)nst_expert_index_slice(index, e, slice, &found);
                if (found.size != bytes) {
                    return refuse_entry(err, NST_TEXT("expert "), e, bytes, found.size,
                                        NST_TEXT("a slice has not the size of its shape"));
                }
                if (bytes == 0 ? found.offset != 0 || found.crc32 != 0
                               : found.offset % NST_EXPERT_ALIGNMENT != 0 ||
                                     !nst_add_u64(found.offset, found.size, &end) ||
                                     end > section_bytes[slice]) {
                    return refuse_entry(err, NST_TEXT("expert "), e, section_bytes[slice],
                                        found.offset,
                                        NST_TEXT("a slice lies outside of its section"));
                }
            }
        }
    }
    largest = (largest + NST_EXPERT_ALIGNMENT - 1) & ~(uint64_t)(NST_EXPERT_ALIGNMENT - 1);
    if (largest != index->slot_bytes) {
        return refuse(err, NST_E_CORRUPT, largest, index->slot_bytes,
                      NST_TEXT("the size of a slot is not that of the largest slice"));
    }
    return NST_OK;
}

static int check_header(nst_expert_index *index, size_t size, nst_error *err) {
    const uint8_t *data = index->data;
    uint64_t layers_end;
    uint64_t slices_end;
    if (size < NST_EXPERTS_HEADER_BYTES) {
        return refuse(err, NST_E_TRUNCATED, NST_EXPERTS_HEADER_BYTES, size,
                      NST_TEXT("the index of experts is shorter than its header"));
    }
    if (u32_at(data + HEADER_MAGIC) != NST_EXPERTS_MAGIC) {
        return refuse(err, NST_E_FOREIGN, NST_EXPERTS_MAGIC, u32_at(data + HEADER_MAGIC),
                      NST_TEXT("not an index of experts"));
    }
    if (u16_at(data + HEADER_VERSION) != NST_EXPERTS_VERSION) {
        return refuse(err, NST_E_VERSION, NST_EXPERTS_VERSION, u16_at(data + HEADER_VERSION),
                      NST_TEXT("an index of experts of another version"));
    }
    if (u32_at(data + HEADER_TOTAL_BYTES) != size) {
        return refuse(err,
                      u32_at(data + HEADER_TOTAL_BYTES) > size ? NST_E_TRUNCATED : NST_E_CORRUPT,
                      u32_at(data + HEADER_TOTAL_BYTES), size,
                      NST_TEXT("the index of experts has another size than it says"));
    }
    if (!zeros(data + HEADER_END, NST_EXPERTS_HEADER_BYTES - HEADER_END)) {
        return refuse(err, NST_E_CORRUPT, 0, 0,
                      NST_TEXT("reserved bytes of the header are not zero"));
    }
    index->slices = u16_at(data + HEADER_SLICES);
    index->layers = u32_at(data + HEADER_LAYERS);
    index->experts = u32_at(data + HEADER_EXPERTS);
    index->slot_bytes = u32_at(data + HEADER_SLOT_BYTES);
    index->layer_table = u32_at(data + HEADER_LAYER_TABLE);
    index->slice_table = u32_at(data + HEADER_SLICE_TABLE);
    if (index->slices == 0 || index->slices > NST_MAX_EXPERT_SLICES) {
        return refuse(err, NST_E_CORRUPT, NST_MAX_EXPERT_SLICES, index->slices,
                      NST_TEXT("experts have one slice or two"));
    }
    if (index->layers == 0 || index->layers > NST_MAX_EXPERT_LAYERS ||
        index->experts > NST_MAX_EXPERT_LAYERS * NST_MAX_EXPERTS) {
        return refuse(err, NST_E_LIMIT, NST_MAX_EXPERT_LAYERS, index->layers,
                      NST_TEXT("no or too many layers of experts"));
    }
    layers_end = index->layer_table + (uint64_t)index->layers * NST_EXPERT_LAYER_BYTES;
    slices_end =
        index->slice_table + (uint64_t)index->experts * index->slices * NST_EXPERT_SLICE_BYTES;
    if (index->layer_table != NST_EXPERTS_HEADER_BYTES || index->slice_table != layers_end ||
        slices_end > size) {
        return refuse(err, NST_E_CORRUPT, size, slices_end,
                      NST_TEXT("the tables of experts do not follow the header one by one"));
    }
    return NST_OK;
}

int nst_expert_index_open(nst_expert_index *out, const void *data, size_t size,
                          const uint64_t section_bytes[NST_MAX_EXPERT_SLICES], nst_error *err) {
    nst_expert_index index = {0};
    int code;
    if (out == NULL || data == NULL || section_bytes == NULL ||
        (uintptr_t)data % NST_EXPERT_ARRAY_ALIGNMENT != 0) {
        return refuse(err, NST_E_ARGUMENT, 0, 0, NST_TEXT("null or misaligned"));
    }
    index.data = data;
    code = check_header(&index, size, err);
    if (code == NST_OK) {
        code = check_layers(&index, err);
    }
    if (code == NST_OK) {
        code = check_predictors(&index, size, err);
    }
    if (code == NST_OK) {
        code = check_slices(&index, section_bytes, err);
    }
    if (code == NST_OK) {
        *out = index;
    }
    return code;
}

bool nst_expert_index_layer(const nst_expert_index *index, uint32_t layer, nst_expert_layer *out) {
    if (layer >= index->layers) {
        return false;
    }
    read_layer(index->data + index->layer_table + (size_t)NST_EXPERT_LAYER_BYTES * layer,
               index->data, out);
    return true;
}

bool nst_expert_index_slice(const nst_expert_index *index, uint32_t expert, uint32_t slice,
                            nst_expert_slice *out) {
    const uint8_t *at;
    if (expert >= index->experts || slice >= index->slices) {
        return false;
    }
    at = index->data + index->slice_table +
         ((size_t)expert * index->slices + slice) * NST_EXPERT_SLICE_BYTES;
    out->offset = u64_at(at);
    out->size = u32_at(at + 8);
    out->crc32 = u32_at(at + 12);
    return true;
}
