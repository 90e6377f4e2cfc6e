// A conversation on a model that generates: which list of stages computes which tokens.
#pragma once

#include <cstdint>
#include <vector>

#include "core/decode.h"
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
    explicit nst_decoder(nst_model &model);
    nst_decoder(const nst_decoder &) = delete;
    nst_decoder &operator=(const nst_decoder &) = delete;

    int open(nst_error *err);

    nst_decode &decode() { return decode_; }
    const nst_decode &decode() const { return decode_; }
    void cancel() { session_.cancel(); }
    const char *path_name(uint32_t path) const;
    int set_rule(uint32_t from, uint32_t to, uint32_t rule, nst_error *err);
    int rule(uint32_t from, uint32_t to, uint32_t *out, nst_error *err) const;
    int logits(uint32_t path, const float **out, nst_error *err);
    int load(uint32_t path, nst_error *err);
    void state(nst_decoder_state *out) const;

  private:
    int find_paths(nst_error *err);
    int find_slots(nst_error *err);
    int run(uint32_t path, const uint32_t *tokens, uint32_t position, uint32_t count, bool all,
            const float **logits, nst_error *err);
    int run_variant(const nestling::DecoderVariant &variant, const uint32_t *tokens,
                    uint32_t position, uint32_t count, const float **logits, nst_error *err);
    const nestling::DecoderSlots *slots_of(const nestling::DecoderVariant &variant) const;
    void rewind(uint32_t count);
    int plan_of(const nestling::DecoderFamily &family, const nestling::Plan **out,
                nst_error *err) const;
    int choose_family(uint32_t path, uint32_t position, uint32_t end,
                      const nestling::DecoderFamily **out, uint32_t *start, nst_error *err) const;
    uint32_t first_to_redo(uint32_t path, uint32_t position) const;
    bool fills(uint32_t path) const;
    bool keeps(uint32_t from, uint32_t to) const;

    nst_model &model_;
    nst_session session_;
    nst_decode decode_{};
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
