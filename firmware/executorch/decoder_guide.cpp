#include "decoder_guide.h"

#include <algorithm>

#include "session.h"
#include "status.h"

namespace nestling {

int DecoderGuide::begin(const GuidedRun &run, nst_error *err) {
    run_ = run;
    layer_ = NST_NONE;
    const auto stages = run.plan->stages();
    const auto first = std::find_if(stages.begin(), stages.end(), [&](uint32_t stage) {
        return layers_.stage(stage).layer != NST_NONE;
    });
    if (first == stages.end() || layers_.dim() == 0 || !layers_.apart(*run.plan)) {
        return failf(
            err, NST_E_PATH, {}, 0, 0,
            "the path computes several layers as one stage: steering, soft steps and routes "
            "need a chain of stages, a layer each");
    }
    first_block_ = static_cast<size_t>(first - stages.begin());
    return run.router != nullptr ? load_choices(*run.plan, err) : NST_OK;
}

void DecoderGuide::release() {
    model_.residency().unpin(pinned_);
    pinned_.clear();
    choices_.clear();
    routed_ = nullptr;
}

int DecoderGuide::load_choices(const Plan &plan, nst_error *err) {
    if (routed_ == &plan) {
        return NST_OK;
    }
    release();
    std::vector<uint32_t> stages;
    const auto want = [&](uint32_t *stage) -> int {
        if (*stage == NST_NONE) {
            return NST_OK;
        }
        std::vector<uint32_t> found;
        const int code =
            model_.stand_ins().resolve({stage, 1}, Choice::kByOrder, false, &found, err);
        if (code == NST_OK) {
            *stage = found.front();
            stages.push_back(*stage);
        }
        return code;
    };
    for (const PlanStep &step : plan.steps()) {
        LayerChoices choices;
        if (layers_.stage(step.stage).layer != NST_NONE) {
            choices = layers_.choices(step.stage);
        }
        if (int code = want(&choices.fill); code != NST_OK) {
            return code;
        }
        for (uint32_t &stage : choices.levels) {
            if (int code = want(&stage); code != NST_OK) {
                return code;
            }
        }
        choices_.push_back(std::move(choices));
    }
    if (int code = model_.residency().acquire(stages, {}, err); code != NST_OK) {
        choices_.clear();
        return code;
    }
    pinned_ = std::move(stages);
    routed_ = &plan;
    return NST_OK;
}

int DecoderGuide::before(nst_session &session, size_t step, uint32_t *stage, nst_error *err) {
    if (step == first_block_ && run_.token_ids != nullptr) {
        if (int code = mix(session, err); code != NST_OK) {
            return code;
        }
    }
    const LayerStage &role = layers_.stage(run_.plan->stages()[step]);
    if (role.layer == NST_NONE) {
        return NST_OK;
    }
    if (role.layer != layer_) {
        layer_ = role.layer;
        auto *stream = static_cast<float *>(session.pointer(step, role.stream));
        if (run_.router != nullptr) {
            if (int code = ask_router(step, stream, err); code != NST_OK) {
                return code;
            }
        }
        if (run_.router == nullptr || level_ != 0) {
            steer(stream);
        }
    }
    if (run_.router != nullptr) {
        const LayerChoices &choices = choices_[step];
        if (level_ == 0) {
            *stage = choices.fill;
        } else if (!role.rows && level_ <= choices.levels.size()) {
            *stage = choices.levels[level_ - 1];
        }
    }
    return NST_OK;
}

// The level of the layer that begins at `step`.
int DecoderGuide::ask_router(size_t step, const float *stream, nst_error *err) {
    const auto stages = run_.plan->stages();
    nst_layer_input at{};
    at.layer = layer_;
    at.layers = layers_.count();
    at.dim = layers_.dim();
    at.stream = stream;
    at.skippable = 1;
    at.levels = at.path_level = 1;
    const LayerChoices *widths = nullptr;
    for (size_t i = step; i < stages.size(); ++i) {
        const LayerStage &role = layers_.stage(stages[i]);
        if (role.layer != NST_NONE && role.layer != layer_) {
            break;
        }
        if (role.layer == NST_NONE) {
            continue;
        }
        if (choices_[i].required || (role.rows && choices_[i].fill == NST_NONE)) {
            at.skippable = 0;
        }
        if (!role.rows) {
            widths = &choices_[i];
            at.levels = static_cast<uint32_t>(widths->levels.size());
            at.path_level = std::max(1u, model_.tables().stages[stages[i]].level);
        }
    }
    level_ = run_.router->route(run_.router->self, &at);
    if (level_ == 0 && at.skippable == 0) {
        return failf(err, NST_E_PATH, {}, 0, layer_,
                     "the policy leaves out layer %u, which every token must run through", layer_);
    }
    if (level_ > at.levels ||
        (level_ != 0 && widths != nullptr && widths->levels[level_ - 1] == NST_NONE)) {
        return failf(err, NST_E_PATH, {}, at.levels, level_,
                     "the policy names a level that layer %u has not", layer_);
    }
    return NST_OK;
}

void DecoderGuide::steer(float *stream) const {
    const uint32_t dim = layers_.dim();
    for (uint32_t row = 0; row < run_.count; ++row) {
        uint32_t left = feeds_.steering(run_.position + row);
        for (uint32_t i = 0; left != 0; ++i, left >>= 1) {
            const SteeringVector &vector = feeds_.vector(i);
            if ((left & 1) != 0 && vector.layer == layer_ && vector.values.size() == dim) {
                float *values = stream + size_t{row} * dim;
                std::transform(values, values + dim, vector.values.begin(), values,
                               [](float a, float b) { return a + b; });
            }
        }
    }
}

// In the place of tokens of soft steps, their means: the first stage runs once for each of the
// tokens that are mixed. What it does to a token before the first layer is then mixed, too; whatever
// its weights are, the result is on the stream's own terms.
int DecoderGuide::mix(nst_session &session, nst_error *err) {
    const uint32_t dim = layers_.dim();
    size_t most = 0;
    for (uint32_t row = 0; row < run_.count; ++row) {
        most = std::max(most, feeds_.soft(run_.position + row).size());
    }
    if (most == 0) {
        return NST_OK;
    }
    const uint32_t slot = layers_.stage(run_.plan->stages()[first_block_]).stream;
    auto *stream = static_cast<float *>(session.pointer(first_block_, slot));
    own_ids_.assign(run_.token_ids, run_.token_ids + run_.count);
    means_.assign(size_t{run_.count} * dim, 0.0f);
    for (size_t i = 0; i < most; ++i) {
        for (uint32_t row = 0; row < run_.count; ++row) {
            if (const auto soft = feeds_.soft(run_.position + row); i < soft.size()) {
                run_.token_ids[row] = soft[i].token;
            }
        }
        if (int code = session.repeat(0, err); code != NST_OK) {
            return code;
        }
        for (uint32_t row = 0; row < run_.count; ++row) {
            if (const auto soft = feeds_.soft(run_.position + row); i < soft.size()) {
                for (uint32_t k = 0; k < dim; ++k) {
                    means_[size_t{row} * dim + k] += soft[i].weight * stream[size_t{row} * dim + k];
                }
            }
        }
    }
    for (uint32_t row = 0; row < run_.count; ++row) {
        if (!feeds_.soft(run_.position + row).empty()) {
            std::copy_n(means_.begin() + size_t{row} * dim, dim, stream + size_t{row} * dim);
            run_.token_ids[row] = own_ids_[row];
        }
    }
    return NST_OK;
}

}  // namespace nestling
