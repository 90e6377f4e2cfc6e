#include "decoder_feeds.h"

#include <algorithm>
#include <atomic>

#include "status.h"

namespace nestling {
namespace {

// Above every token, and one of the process.
uint32_t new_identity() {
    static std::atomic<uint32_t> next{0};
    return 0x80000000u | next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

int DecoderFeeds::set(uint32_t position, const nst_token_feed &feed, nst_error *err) {
    for (uint32_t i = 0; i < 32; ++i) {
        if ((feed.steering >> i & 1) != 0 && vectors_[i].values.empty()) {
            return failf(err, NST_E_NOT_FOUND, {}, 0, i, "there is no steering vector %u", i);
        }
    }
    if (feed.steering == 0 && feed.routed == 0 && feed.soft_tokens == 0) {
        if (position < end_) {
            feeds_[position] = {};
        }
        return NST_OK;
    }
    if (feeds_.empty()) {
        feeds_.resize(limit_);
        identities_.resize(limit_);
    }
    if (feed.soft_tokens != 0) {
        means_.resize(size_t{limit_} * NST_SOFT_MAX);
        std::copy_n(feed.soft, feed.soft_tokens, means_.begin() + position * NST_SOFT_MAX);
    }
    feeds_[position] = {feed.steering, feed.soft_tokens, new_identity(), feed.routed != 0};
    end_ = std::max(end_, position + 1);
    return NST_OK;
}

void DecoderFeeds::forget_from(uint32_t position) {
    for (; end_ > position; --end_) {
        feeds_[end_ - 1] = {};
    }
}

bool DecoderFeeds::any(uint32_t position, uint32_t count) const {
    for (uint32_t i = position; i < std::min(end_, position + count); ++i) {
        if (feeds_[i].identity != 0) {
            return true;
        }
    }
    return false;
}

std::span<const nst_candidate> DecoderFeeds::soft(uint32_t position) const {
    const uint32_t count = at(position).soft_tokens;
    return count == 0 ? std::span<const nst_candidate>()
                      : std::span(means_).subspan(size_t{position} * NST_SOFT_MAX, count);
}

std::span<const uint32_t> DecoderFeeds::identities(std::span<const uint32_t> tokens) {
    if (end_ == 0) {
        return tokens;
    }
    for (uint32_t i = 0; i < tokens.size(); ++i) {
        const uint32_t identity = at(i).identity;
        identities_[i] = identity != 0 ? identity : tokens[i];
    }
    return {identities_.data(), tokens.size()};
}

void DecoderFeeds::set_vector(uint32_t index, uint32_t layer, std::span<const float> values) {
    vectors_[index].layer = layer;
    vectors_[index].values.assign(values.begin(), values.end());
}

}  // namespace nestling
