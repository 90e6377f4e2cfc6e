#include "weight_names.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "status.h"

namespace nestling {
namespace {

struct Claim {
    const void *owner;
    const uint8_t *data;
    uint64_t size;
    const Mapping *mapping;
    uint32_t count;
};

struct Names {
    std::mutex mutex;
    std::unordered_map<std::string, std::vector<Claim>> claims;
};

Names &names() {
    static Names all;
    return all;
}

bool same_bytes(const Claim &known, const NamedWeight &weight) {
    if (known.size != weight.size) {
        return false;
    }
    if (known.data == weight.data) {
        return true;
    }
    const bool same_place =
        known.mapping->same_file(*weight.mapping) &&
        known.data - known.mapping->data() == weight.data - weight.mapping->data();
    // A file that was cut cannot be compared; what is packed came from checked bytes of equal size
    // and name.
    return same_place || known.mapping->check_alive(nullptr, nullptr) != NST_OK ||
           std::memcmp(known.data, weight.data, static_cast<size_t>(weight.size)) == 0;
}

}  // namespace

int claim_weight_name(const void *owner, const NamedWeight &weight, nst_error *err) {
    const std::lock_guard<std::mutex> lock(names().mutex);
    std::vector<Claim> &claims = names().claims[std::string(weight.name)];
    for (Claim &claim : claims) {
        if (claim.owner == owner && claim.data == weight.data) {
            ++claim.count;
            return NST_OK;
        }
    }
    if (!claims.empty() && !same_bytes(claims.front(), weight)) {
        return failf(err, NST_E_STATE, {}, claims.front().size, weight.size,
                     "another open model means other bytes by the weight %.64s",
                     std::string(weight.name).c_str());
    }
    claims.push_back({owner, weight.data, weight.size, weight.mapping, 1});
    return NST_OK;
}

void release_weight_name(const void *owner, std::string_view name) {
    const std::lock_guard<std::mutex> lock(names().mutex);
    const auto entry = names().claims.find(std::string(name));
    if (entry == names().claims.end()) {
        return;
    }
    std::vector<Claim> &claims = entry->second;
    const auto own = std::find_if(claims.begin(), claims.end(),
                                  [&](const Claim &claim) { return claim.owner == owner; });
    if (own != claims.end() && --own->count == 0) {
        claims.erase(own);
    }
    if (claims.empty()) {
        names().claims.erase(entry);
    }
}

}  // namespace nestling
