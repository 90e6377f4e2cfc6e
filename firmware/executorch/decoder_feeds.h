// How the tokens of a conversation were fed, where that is not as themselves.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/decode.h"

namespace nestling {

// One vector that policies may add to the stream.
struct SteeringVector {
    uint32_t layer = 0;
    std::vector<float> values;  // empty: there is none
};

// Kept for as long as the tokens are, so that a token that is computed anew, by another path, is fed
// as before. Takes memory when it is first used, and none later.
class DecoderFeeds {
  public:
    // Tokens that there can be.
    void open(uint32_t limit) { limit_ = limit; }

    // NST_E_NOT_FOUND: a vector that there is not.
    int set(uint32_t position, const nst_token_feed &feed, nst_error *err);
    void forget_from(uint32_t position);
    // Whether some token of these is not fed as itself, or is routed.
    bool any(uint32_t position, uint32_t count) const;

    uint32_t steering(uint32_t position) const { return at(position).steering; }
    bool routed(uint32_t position) const { return at(position).routed; }
    // Tokens whose mean is fed; empty: the token itself.
    std::span<const nst_candidate> soft(uint32_t position) const;
    // The conversation as whoever shares what is computed of it must see it: in the place of tokens
    // that were not fed as themselves stand numbers that no other conversation has.
    std::span<const uint32_t> identities(std::span<const uint32_t> tokens);

    // Empty `values` take the vector away. `index` is below 32.
    void set_vector(uint32_t index, uint32_t layer, std::span<const float> values);
    const SteeringVector &vector(uint32_t index) const { return vectors_[index]; }

  private:
    struct Feed {
        uint32_t steering = 0;
        uint32_t soft_tokens = 0;
        uint32_t identity = 0;  // 0: fed as itself
        bool routed = false;
    };

    const Feed &at(uint32_t position) const {
        static const Feed kItself{};
        return position < end_ ? feeds_[position] : kItself;
    }

    uint32_t limit_ = 0;
    uint32_t end_ = 0;                  // no token from here on is fed in a way of its own
    std::vector<Feed> feeds_;           // [limit], or empty
    std::vector<nst_candidate> means_;  // [limit][NST_SOFT_MAX], or empty
    std::vector<uint32_t> identities_;  // [limit], or empty
    SteeringVector vectors_[32];
};

}  // namespace nestling
