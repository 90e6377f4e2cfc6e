#include "decoder_layers.h"

#include <algorithm>

#include "status.h"

namespace nestling {
namespace {

bool has(const std::vector<uint32_t> &slots, uint32_t slot) {
    return std::find(slots.begin(), slots.end(), slot) != slots.end();
}

}  // namespace

int DecoderLayers::open(const nst_bundle &bundle, const Tables &tables, nst_error *err) {
    tables_ = &tables;
    stages_.resize(tables.stages.size());
    const uint32_t positions = bundle.count[NST_POSITIONS];
    std::vector<bool> in_layer(positions);
    for (size_t i = 0; i < tables.stages.size(); ++i) {
        const Stage &stage = tables.stages[i];
        LayerStage &out = stages_[i];
        for (const uint32_t slot : stage.outputs) {
            out.rows = out.rows || tables.slots[slot].append != NST_NONE;
            if (tables.slots[slot].role == NST_INTERNAL && has(stage.inputs, slot)) {
                out.stream = slot;
            }
        }
        if (out.stream != NST_NONE) {
            in_layer[stage.first] = true;
            const Slot &stream = tables.slots[out.stream];
            if (stream.dtype == NST_F32 && !stream.shape.empty()) {
                dim_ = static_cast<uint32_t>(stream.shape.back());
            }
        }
    }
    uint32_t last = NST_NONE;
    for (uint32_t i = 0; i < positions; ++i) {
        nst_position_info position{};
        if (nst_bundle_position(&bundle, i, &position) != NST_OK) {
            return failf(err, NST_E_CORRUPT, {.section = "positions", .stage = {}}, 0, i,
                         "a position cannot be read");
        }
        required_.push_back(position.required);
        if (!in_layer[i]) {
            layer_of_.push_back(NST_NONE);
            continue;
        }
        count_ += position.layer != last ? 1 : 0;
        last = position.layer;
        layer_of_.push_back(count_ - 1);
    }
    for (size_t i = 0; i < stages_.size(); ++i) {
        if (stages_[i].stream != NST_NONE) {
            stages_[i].layer = layer_of_[tables.stages[i].first];
        }
    }
    return NST_OK;
}

bool DecoderLayers::apart(const Plan &plan) const {
    return std::all_of(plan.stages().begin(), plan.stages().end(), [&](uint32_t index) {
        const Stage &stage = tables_->stages[index];
        const LayerStage &role = stages_[index];
        // One that goes on from what an exit has kept covers layers, but computes none.
        if (!role.rows && role.stream == NST_NONE &&
            std::any_of(stage.inputs.begin(), stage.inputs.end(),
                        [&](uint32_t slot) { return tables_->slots[slot].grows; })) {
            return true;
        }
        for (uint32_t i = stage.first; i <= stage.last; ++i) {
            if (stage.first != stage.last && layer_of_[i] != NST_NONE &&
                layer_of_[i] != role.layer) {
                return false;
            }
        }
        return true;
    });
}

LayerChoices DecoderLayers::choices(uint32_t stage) const {
    const Stage &own = tables_->stages[stage];
    const LayerStage &role = stages_[stage];
    LayerChoices out;
    out.required = required_[own.first];
    for (uint32_t i = 0; i < stages_.size(); ++i) {
        const Stage &other = tables_->stages[i];
        if (other.first != own.first || other.last != own.last || other.target != 0) {
            continue;
        }
        if (other.inputs == own.inputs && other.outputs == own.outputs && other.level != 0) {
            if (out.levels.size() < other.level) {
                out.levels.resize(other.level, NST_NONE);
            }
            out.levels[other.level - 1] = i;
        }
        const auto among = [](const std::vector<uint32_t> &slots) {
            return [&slots](uint32_t slot) { return has(slots, slot); };
        };
        if (role.rows && !has(other.outputs, role.stream) &&
            std::all_of(other.inputs.begin(), other.inputs.end(), among(own.inputs)) &&
            own.outputs.size() == other.outputs.size() + 1 &&
            std::all_of(other.outputs.begin(), other.outputs.end(), among(own.outputs))) {
            out.fill = i;
        }
    }
    return out;
}

}  // namespace nestling
