// What happens between the stages of a decoder's run: steering, means of tokens, routes.
#pragma once

#include <cstdint>
#include <vector>

#include "core/decode.h"
#include "decoder_feeds.h"
#include "decoder_layers.h"
#include "model.h"
#include "run_guide.h"

namespace nestling {

// A run that is about to be guided.
struct GuidedRun {
    const Plan *plan = nullptr;
    uint32_t position = 0;  // of its first token
    uint32_t count = 0;     // of tokens that are no padding
    int64_t *token_ids =
        nullptr;  // that its first stage reads; null: it does not begin with tokens
    const nst_token_policy *router = nullptr;  // null: the plan's own stages
};

class DecoderGuide final : public RunGuide {
  public:
    DecoderGuide(nst_model &model, const DecoderLayers &layers, const DecoderFeeds &feeds)
        : model_(model), layers_(layers), feeds_(feeds) {}
    ~DecoderGuide() override { release(); }
    DecoderGuide(const DecoderGuide &) = delete;
    DecoderGuide &operator=(const DecoderGuide &) = delete;

    // NST_E_PATH: the plan computes several layers as one stage. Loads what a router may choose.
    int begin(const GuidedRun &run, nst_error *err);
    int before(nst_session &session, size_t step, uint32_t *stage, nst_error *err) override;
    // Lets go of what routers may choose.
    void release();

  private:
    int load_choices(const Plan &plan, nst_error *err);
    int mix(nst_session &session, nst_error *err);
    int ask_router(size_t step, const float *stream, nst_error *err);
    void steer(float *stream) const;

    nst_model &model_;
    const DecoderLayers &layers_;
    const DecoderFeeds &feeds_;
    GuidedRun run_;
    size_t first_block_ = 0;             // step that first reads the stream
    uint32_t layer_ = NST_NONE;          // that the run is in
    uint32_t level_ = 0;                 // that the router chose for it
    const Plan *routed_ = nullptr;       // whose choices these are
    std::vector<LayerChoices> choices_;  // [step]
    std::vector<uint32_t> pinned_;
    std::vector<float> means_;  // [token][dim]
    std::vector<int64_t> own_ids_;
};

}  // namespace nestling
