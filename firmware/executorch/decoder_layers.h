// Which stages of a decoder belong to which layer, and which may take each other's place.
#pragma once

#include <cstdint>
#include <vector>

#include "core/bundle.h"
#include "plan.h"
#include "tables.h"

namespace nestling {

// What a stage is to a layer.
struct LayerStage {
    uint32_t layer = NST_NONE;   // from 0; NST_NONE: it does not go on with a residual stream
    uint32_t stream = NST_NONE;  // the slot that it reads and writes
    bool rows = false;           // it also appends to caches: attention
};

// What may run at one step of a plan.
struct LayerChoices {
    std::vector<uint32_t> levels;  // [level - 1] stage; NST_NONE: there is none
    uint32_t fill = NST_NONE;      // writes the caches alone
    bool required = false;
};

class DecoderLayers {
  public:
    int open(const nst_bundle &bundle, const Tables &tables, nst_error *err);

    uint32_t count() const { return count_; }
    uint32_t dim() const { return dim_; }  // of the stream; 0: it is not one of floats
    const LayerStage &stage(uint32_t index) const { return stages_[index]; }
    // Whether no stage of the plan computes more than one layer.
    bool apart(const Plan &plan) const;
    // The stages that may stand in the place of one.
    LayerChoices choices(uint32_t stage) const;

  private:
    const Tables *tables_ = nullptr;
    std::vector<LayerStage> stages_;  // [stage]
    std::vector<uint32_t> layer_of_;  // [position]; NST_NONE: not of a layer
    std::vector<bool> required_;      // [position]
    uint32_t count_ = 0;
    uint32_t dim_ = 0;
};

}  // namespace nestling
