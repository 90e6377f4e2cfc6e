// What the named paths of a bundle mean to a decoder: which of them compute the same sub-network.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/error.h"
#include "tables.h"

namespace nestling {

// One size of a path: a named path of the bundle.
struct DecoderVariant {
    uint32_t path;  // in the bundle
    uint32_t tokens;
    bool all;  // gives the logits of all tokens
};

// A way to compute a path: from its first layer, or from what an exit has kept; with or without
// filling the caches of layers that it leaves out.
struct DecoderFamily {
    uint32_t from = 0;  // layers that are not computed again
    bool fills = false;
    std::vector<DecoderVariant> variants;  // ascending by tokens; the first has one

    // The variant that computes the next of `left` tokens: as few runs as possible, without much
    // waste. Null: there is none.
    const DecoderVariant *pick(uint32_t left) const;
    // The one that gives the logits of `count` tokens; null: there is none.
    const DecoderVariant *pick_all(uint32_t count) const;
};

struct DecoderPath {
    std::string name;
    std::vector<DecoderFamily>
        families;  // whole ones first, then those from an exit, deepest first

    const DecoderFamily *whole(bool fills) const;
};

// The paths that a token may take, small to large. NST_E_PATH: one of them does not come for one
// token, or not from the first layer.
int find_decoder_paths(const Tables &tables, std::vector<DecoderPath> *out, nst_error *err);

}  // namespace nestling
