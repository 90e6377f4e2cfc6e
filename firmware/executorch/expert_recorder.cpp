#include "expert_recorder.h"

#include <algorithm>

namespace nestling {

void ExpertRecorder::start(uint32_t calls, uint32_t experts) {
    const size_t numbers = static_cast<size_t>(calls) * experts;
    std::vector<nst_expert_call> kept;
    kept.reserve(calls);
    std::vector<float> probabilities(numbers);
    std::vector<uint32_t> chosen(numbers);
    // Nothing throws from here on.
    calls_ = std::move(kept);
    probabilities_ = std::move(probabilities);
    chosen_ = std::move(chosen);
    room_ = calls;
    experts_ = experts;
    dropped_ = 0;
}

void ExpertRecorder::note(const nst_expert_visit &visit, uint32_t tokens) {
    if (calls_.size() == room_) {
        dropped_ += room_ != 0 ? 1 : 0;
        return;
    }
    const size_t row = calls_.size() * experts_;
    std::copy_n(visit.probabilities, experts_, probabilities_.begin() + static_cast<long>(row));
    std::copy_n(visit.chosen, visit.count, chosen_.begin() + static_cast<long>(row));
    calls_.push_back({visit.request, visit.layer, tokens, visit.count});
}

void ExpertRecorder::read(uint32_t index, nst_expert_call *out, float *probabilities,
                          uint32_t *chosen) const {
    const auto row = static_cast<long>(static_cast<size_t>(index) * experts_);
    *out = calls_[index];
    std::copy_n(probabilities_.begin() + row, experts_, probabilities);
    std::copy_n(chosen_.begin() + row, out->chosen, chosen);
}

}  // namespace nestling
