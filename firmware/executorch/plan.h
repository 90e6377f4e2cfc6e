// A path turned into what a run does: which stage reads and writes which buffer.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tables.h"

namespace nestling {

// A slot has up to two buffers. A stage that writes the slot writes the one where its present value
// is not, so that a stage may read and write the same slot (the residual stream). Which is which is
// fixed so that the last write of a run lands in the first buffer. State slots have no such end:
// their value stays where it is.
enum class Place : uint8_t {
    kFirst = 0,
    kSecond = 1,
    kStateNow = 2,    // where the state's value was when the run began
    kStateOther = 3,  // the other buffer of it
};
constexpr size_t kPlaces = 4;

struct PlanArgument {
    uint32_t slot;
    Place place;
};

struct PlanStep {
    uint32_t stage;
    uint32_t first_argument;  // its inputs, then its outputs
    uint32_t arguments;
};

// A growing state slot that a plan reads: all rows before the run's, or those of the run's tokens.
struct StateUse {
    uint32_t slot;
    bool by_row;
};

class Plan {
  public:
    // Room for every plan of these sizes: `build` then allocates nothing.
    void reserve(size_t steps, size_t arguments, size_t slots);

    // `stages` must be a legal path of at most the reserved size.
    void build(const Tables &tables, std::span<const uint32_t> stages);

    std::span<const PlanStep> steps() const { return steps_; }
    std::span<const uint32_t> stages() const { return stages_; }
    const PlanArgument *arguments(const PlanStep &step) const {
        return arguments_.data() + step.first_argument;
    }
    // State slots whose value is in the other buffer after a run.
    std::span<const uint32_t> flipped_states() const { return flipped_; }
    // Tokens of one run: the rows that it appends to growing slots. 0: it appends nothing.
    uint32_t rows() const { return rows_; }
    std::span<const uint32_t> appended() const { return appended_; }
    std::span<const StateUse> states() const { return states_; }
    bool empty() const { return steps_.empty(); }

  private:
    void note_growth(const Tables &tables, const Stage &stage);

    std::vector<PlanStep> steps_;
    std::vector<PlanArgument> arguments_;
    std::vector<uint32_t> stages_;
    std::vector<uint32_t> flipped_;
    std::vector<uint32_t> appended_;
    std::vector<StateUse> states_;
    uint32_t rows_ = 0;
    std::vector<uint32_t> writes_left_;  // [slot], zero between builds
    std::vector<uint32_t> writes_done_;  // [slot], zero between builds
};

}  // namespace nestling
