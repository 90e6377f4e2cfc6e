#include "placing.h"

#include <algorithm>
#include <vector>

#include "core/placement.h"
#include "status.h"

namespace nestling {
namespace {

constexpr double kImpossible = -1.0;
constexpr double kNsPerUs = 1e3;

// [step - 1] bytes that are alive between two steps: written by a step before the border and read
// by one behind it, before it is written anew.
std::vector<uint64_t> bytes_at_borders(const Tables &tables, const std::vector<uint32_t> &chain) {
    std::vector<uint32_t> first_write(tables.slots.size(), NST_NONE);
    for (uint32_t step = 0; step < chain.size(); ++step) {
        for (const uint32_t slot : tables.stages[chain[step]].outputs) {
            first_write[slot] = std::min(first_write[slot], step);
        }
    }
    std::vector<uint64_t> bytes(chain.size(), 0);
    std::vector<bool> wanted(tables.slots.size(), false);
    for (size_t step = chain.size(); step-- > 1;) {
        const Stage &stage = tables.stages[chain[step]];
        for (const uint32_t slot : stage.outputs) {
            wanted[slot] = false;
        }
        for (const uint32_t slot : stage.inputs) {
            wanted[slot] = true;
        }
        for (size_t slot = 0; slot < wanted.size(); ++slot) {
            if (wanted[slot] && first_write[slot] < step) {
                bytes[step - 1] += tables.slots[slot].bytes;
            }
        }
    }
    return bytes;
}

}  // namespace

int place_path(nst_model &model, uint32_t path, const nst_transfer &transfer, uint32_t *out_stages,
               double *out_us, nst_error *err) {
    const Tables &tables = model.tables();
    const std::vector<uint32_t> &chain = tables.paths[path].chain;
    const size_t steps = chain.size();
    const size_t targets = tables.targets.size();
    if (!(transfer.switch_us >= 0) || !(transfer.us_per_byte >= 0)) {
        return failf(err, NST_E_ARGUMENT, {}, 0, 0, "a transfer cannot cost less than nothing");
    }
    std::vector<double> stage_us(steps * targets, kImpossible);
    for (size_t step = 0; step < steps; ++step) {
        bool measured = false;
        for (uint32_t target = 0; target < targets; ++target) {
            const uint32_t stage = model.stand_ins().on(chain[step], target);
            nst_stage_stats stats{};
            if (stage != NST_NONE && model.stand_ins().usable(stage)) {
                model.run_stats(stage, &stats);
            }
            if (stats.calls > 0) {
                stage_us[step * targets + target] = static_cast<double>(stats.min_ns) / kNsPerUs;
                measured = true;
            }
        }
        if (!measured) {
            return failf(err, NST_E_STATE,
                         {.section = {}, .stage = tables.stages[chain[step]].name}, 0, 0,
                         "the stage was not run yet on any target that it could run on");
        }
    }
    const std::vector<uint64_t> bytes = bytes_at_borders(tables, chain);
    std::vector<double> move_us;
    move_us.reserve((steps - 1) * targets * targets);
    for (size_t border = 0; border + 1 < steps; ++border) {
        const double moved =
            transfer.switch_us + static_cast<double>(bytes[border]) * transfer.us_per_byte;
        for (size_t pair = 0; pair < targets * targets; ++pair) {
            move_us.push_back(pair / targets == pair % targets ? 0 : moved);
        }
    }
    std::vector<uint32_t> choice(steps);
    std::vector<uint8_t> scratch(steps * targets);
    const nst_placement placement{.steps = static_cast<uint32_t>(steps),
                                  .targets = static_cast<uint32_t>(targets),
                                  .stage_us = stage_us.data(),
                                  .move_us = move_us.data()};
    const int code = nst_placement_search(&placement, choice.data(), scratch.data(), out_us);
    if (code != NST_OK) {
        return failf(err, code, {}, 0, 0, "the path cannot be placed");
    }
    for (size_t step = 0; step < steps; ++step) {
        out_stages[step] = model.stand_ins().on(chain[step], choice[step]);
    }
    return NST_OK;
}

}  // namespace nestling
