// A conversation on a model that generates: which list of stages computes which tokens.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cache_pool.h"
#include "core/decode.h"
#include "decoder_feeds.h"
#include "decoder_guide.h"
#include "decoder_layers.h"
#include "decoder_paths.h"
#include "nestling.h"
#include "session.h"

namespace nestling {

// The slots of one size.
struct DecoderSlots {
    uint32_t tokens = 0;
    int64_t *token_ids = nullptr;
    int64_t *row = nullptr;  // null for one token
    const float *logits = nullptr;
};

}  // namespace nestling

struct nst_decoder {
  public:
    // `pool` (may be null) has its caches.
    nst_decoder(nst_model &model, nestling::CachePool *pool);
    nst_decoder(const nst_decoder &) = delete;
    nst_decoder &operator=(const nst_decoder &) = delete;

    int open(nst_error *err);

    nst_decode &decode() { return decode_; }
    // Null: it belongs to no pool.
    nestling::CachePager *pager() { return pager_.get(); }
    const nst_decode &decode() const { return decode_; }
    void cancel() { session_.cancel(); }
    const char *path_name(uint32_t path) const;
    int set_rule(uint32_t from, uint32_t to, uint32_t rule, nst_error *err);
    int rule(uint32_t from, uint32_t to, uint32_t *out, nst_error *err) const;
    int logits(uint32_t path, const float **out, nst_error *err);
    int generate(const nst_generate_options &options, const nst_token_policy &policy,
                 nst_on_token on_token, void *user, nst_generate_stats *stats, nst_error *err);
    int forget_from(uint32_t count, nst_error *err);
    int load(uint32_t path, nst_error *err);
    int set_steering(uint32_t index, uint32_t layer, const float *vector, uint32_t dim,
                     nst_error *err);
    const nestling::DecoderLayers &layers() const { return layers_; }
    // NST_E_STATE: called by a callback of its own generation.
    int idle(nst_error *err) const;
    void state(nst_decoder_state *out) const;

  private:
    // Between these its caches are in memory, or on their way.
    int begin_use(nst_error *err);
    int end_use(nst_error *err);
    void forget_rows();
    uint32_t adopt_rows(uint32_t path, const uint32_t *tokens, uint32_t from, uint32_t end);
    uint32_t content_key(uint32_t path) const { return path * 2 + (fills(path) ? 1 : 0); }
    int compute_logits(uint32_t path, const float **out, nst_error *err);
    int find_paths(nst_error *err);
    int find_slots(nst_error *err);
    int run(uint32_t path, const uint32_t *tokens, uint32_t position, uint32_t count, bool all,
            const float **logits, nst_error *err);
    int run_variant(const nestling::DecoderVariant &variant, const uint32_t *tokens,
                    uint32_t position, uint32_t count, bool whole, bool routed,
                    const float **logits, nst_error *err);
    nst_decode_engine make_engine(uint32_t verify_tokens);
    const nestling::DecoderSlots *slots_of(const nestling::DecoderVariant &variant) const;
    void rewind(uint32_t count);
    int plan_of(const nestling::DecoderFamily &family, const nestling::Plan **out,
                nst_error *err) const;
    int choose_family(uint32_t path, uint32_t position, uint32_t end, bool whole,
                      const nestling::DecoderFamily **out, uint32_t *start, nst_error *err) const;
    uint32_t first_to_redo(uint32_t path, uint32_t position) const;
    bool fills(uint32_t path) const;
    bool keeps(uint32_t from, uint32_t to) const;

    nst_model &model_;
    nst_session session_;
    nestling::CachePool *pool_;
    std::unique_ptr<nestling::CachePager> pager_;  // goes before the session's memory does
    nst_decode decode_{};
    nestling::DecoderLayers layers_;
    nestling::DecoderFeeds feeds_;
    nestling::DecoderGuide guide_;
    const nst_token_policy *router_ = nullptr;  // of the generation in progress
    bool generating_ = false;
    std::vector<nestling::DecoderPath> paths_;
    std::vector<nestling::DecoderSlots> slots_;  // ascending by tokens
    std::vector<uint8_t> rules_;                 // [from][to]
    std::vector<uint8_t> makers_;                // [token] path that computed it
    std::vector<uint32_t> tokens_;
    std::vector<nst_candidate> candidates_;
    uint32_t vocabulary_ = 0;
    uint32_t selected_ = NST_NONE;
    uint64_t computed_ = 0;
    uint64_t recomputed_ = 0;
    uint64_t resumed_ = 0;
};
