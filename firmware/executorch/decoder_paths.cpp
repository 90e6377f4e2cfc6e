#include "decoder_paths.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "status.h"

namespace nestling {
namespace {

// What the name of a path says, from its end: `full.from2.all4`.
struct ParsedName {
    std::string_view base;
    uint32_t tokens = 1;
    uint32_t from = 0;
    bool all = false;
    bool fills = false;
};

// Takes `.word<number>` off the end of `name`; 0: it is not there.
uint32_t take_number(std::string_view *name, std::string_view word) {
    const size_t dot = name->rfind('.');
    if (dot == std::string_view::npos || !name->substr(dot + 1).starts_with(word)) {
        return 0;
    }
    const std::string_view digits = name->substr(dot + 1 + word.size());
    uint32_t number = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (error != std::errc() || end != digits.data() + digits.size() || number == 0) {
        return 0;
    }
    *name = name->substr(0, dot);
    return number;
}

ParsedName parse(std::string_view name) {
    ParsedName parsed;
    if (const uint32_t tokens = take_number(&name, "all"); tokens != 0) {
        parsed.tokens = tokens;
        parsed.all = true;
    } else if (const uint32_t chunk = take_number(&name, "t"); chunk != 0) {
        parsed.tokens = chunk;
    }
    parsed.from = take_number(&name, "from");
    if (name.ends_with(".fill")) {
        parsed.fills = true;
        name.remove_suffix(5);
    }
    parsed.base = name;
    return parsed;
}

}  // namespace

const DecoderVariant *DecoderFamily::pick(uint32_t left) const {
    const DecoderVariant *within = nullptr;
    for (const DecoderVariant &variant : variants) {
        if (variant.all) {
            continue;
        }
        if (variant.tokens >= left) {
            return within == nullptr || variant.tokens <= 2 * left ? &variant : within;
        }
        within = &variant;
    }
    return within;
}

const DecoderVariant *DecoderFamily::pick_all(uint32_t count) const {
    for (const DecoderVariant &variant : variants) {
        if (variant.all && variant.tokens >= count) {
            return &variant;
        }
    }
    return nullptr;
}

const DecoderFamily *DecoderPath::whole(bool fills) const {
    const DecoderFamily *found = nullptr;
    for (const DecoderFamily &family : families) {
        if (family.from == 0 && (found == nullptr || family.fills == fills)) {
            found = &family;
        }
    }
    return found;
}

int find_decoder_paths(const Tables &tables, std::vector<DecoderPath> *out, nst_error *err) {
    std::vector<DecoderPath> &paths = *out;
    for (uint32_t i = 0; i < tables.paths.size(); ++i) {
        const ParsedName name = parse(tables.paths[i].name);
        auto path = std::find_if(paths.begin(), paths.end(),
                                 [&](const DecoderPath &p) { return p.name == name.base; });
        if (path == paths.end()) {
            paths.push_back({std::string(name.base), {}});
            path = paths.end() - 1;
        }
        auto &families = path->families;
        auto family = std::find_if(families.begin(), families.end(), [&](const DecoderFamily &f) {
            return f.from == name.from && f.fills == name.fills;
        });
        if (family == families.end()) {
            families.push_back({name.from, name.fills, {}});
            family = families.end() - 1;
        }
        family->variants.push_back({i, name.tokens, name.all});
    }
    for (DecoderPath &path : paths) {
        for (DecoderFamily &family : path.families) {
            std::sort(family.variants.begin(), family.variants.end(),
                      [](const DecoderVariant &a, const DecoderVariant &b) {
                          return a.tokens < b.tokens || (a.tokens == b.tokens && a.all < b.all);
                      });
            if (family.variants.front().tokens != 1) {
                return failf(err, NST_E_PATH, {}, 1, family.variants.front().tokens,
                             "the path %.80s does not come for one token", path.name.c_str());
            }
        }
        std::sort(path.families.begin(), path.families.end(),
                  [](const DecoderFamily &a, const DecoderFamily &b) {
                      const bool whole = a.from == 0, other = b.from == 0;
                      return whole != other ? whole : whole ? a.fills < b.fills : a.from > b.from;
                  });
        if (path.families.front().from != 0) {
            return failf(err, NST_E_PATH, {}, 0, 0, "the path %.80s has no first layer",
                         path.name.c_str());
        }
    }
    // Small to large, by what one token costs.
    std::sort(paths.begin(), paths.end(), [&](const DecoderPath &a, const DecoderPath &b) {
        const auto macs = [&](const DecoderPath &path) {
            return tables.paths[path.families.front().variants.front().path].macs;
        };
        return macs(a) < macs(b);
    });
    return NST_OK;
}

}  // namespace nestling
