#include "model.h"

#include <algorithm>
#include <span>
#include <string>
#include <string_view>

#include "clock.h"
#include "expert_operator.h"
#include "hash.h"
#include "log.h"
#include "status.h"

using nestling::failf;

namespace {

// Of the manifest's hash: enough that no two models share a prefix, by chance or on purpose.
constexpr size_t kModelNameBytes = 16;

}  // namespace

nst_model::~nst_model() {
    residency_.close();
}

int nst_model::read_manifest(nst_error *err) {
    nst_prefix prefix;
    if (int code = nst_bundle_prefix(mapping_.data(), mapping_.size(), &prefix, err);
        code != NST_OK) {
        return code;
    }
    // Everything that is parsed must not change any more.
    const uint64_t head = NST_PREFIX_BYTES + prefix.manifest_bytes + prefix.signature_bytes;
    if (head < mapping_.size()) {
        if (int code = mapping_.freeze_head(static_cast<size_t>(head), err); code != NST_OK) {
            return code;
        }
    }
    const size_t index_bytes = nst_bundle_index_bytes(&prefix);
    index_.reset(new uint32_t[(index_bytes + 3) / 4]);
    return nst_bundle_open(&bundle_, mapping_.data(), mapping_.size(), index_.get(), index_bytes,
                           nestling::platform_hash(), err);
}

int nst_model::open(const nst_model_options &options, nst_error *err) {
    nestling::start_runtime();
    if (int code = read_manifest(err); code != NST_OK) {
        return code;
    }
    if (int code = tables_.read(bundle_, err); code != NST_OK) {
        return code;
    }
    if (int code = stand_ins_.open(tables_, options.targets, options.log, options.log_user, err);
        code != NST_OK) {
        return code;
    }
    if (int code = claim_.take(options.threads, err); code != NST_OK) {
        return code;
    }
    const uint64_t arena_bytes = tables_.arena_bytes + (tables_.arena_bytes > 0 ? 4096 : 0);
    if (arena_bytes > SIZE_MAX / 2 || !arena_.reserve(static_cast<size_t>(arena_bytes))) {
        return failf(err, NST_E_NO_MEMORY, {}, arena_bytes, 0, "no memory for activations");
    }
    constants_.open(tables_, bundle_, mapping_, options.keep_pages != 0);
    std::string name;
    for (size_t i = 0; i < kModelNameBytes; ++i) {
        constexpr char digits[] = "0123456789abcdef";
        const uint8_t byte = bundle_.info.manifest_sha256[i];
        name += {digits[byte >> 4], digits[byte & 15]};
    }
    if (options.verify_all != 0) {
        if (int code = constants_.verify_all(err); code != NST_OK) {
            return code;
        }
    }
    if (int code = experts_.open(bundle_, mapping_, *nestling::platform_hash(), err);
        code != NST_OK) {
        return code;
    }
    slot_orders_.resize(tables_.slots.size());
    stats_.resize(tables_.stages.size());
    residency_.open({.tables = &tables_,
                     .stand_ins = &stand_ins_,
                     .constants = &constants_,
                     .model = name,
                     .arena = &arena_,
                     .scratch = &scratch_,
                     .weight_cache = options.weight_cache != 0,
                     .workspace_per_stage = options.workspace == NST_WORKSPACE_PER_STAGE,
                     .single_thread = claim_.single(),
                     .slot_orders = &slot_orders_},
                    options.budget_bytes);
    path_plans_.resize(tables_.paths.size());
    for (uint32_t i = 0; i < tables_.paths.size(); ++i) {
        plan_path(i);
    }
    return NST_OK;
}

const nestling::Plan *nst_model::make_plan(const std::vector<uint32_t> &stages) {
    auto plan = std::make_unique<nestling::Plan>();
    plan->reserve(0, 0, tables_.slots.size());
    plan->build(tables_, stages);
    plans_.push_back(std::move(plan));
    return plans_.back().get();
}

// Makes the plans of a path, or makes anew those whose stages are no longer the same.
void nst_model::plan_path(uint32_t index) {
    const nestling::Path &path = tables_.paths[index];
    PathPlans &plans = path_plans_[index];
    std::vector<uint32_t> stages;
    if (stand_ins_.resolve(path.chain, nestling::Choice::kByOrder, true, &stages, nullptr) !=
        NST_OK) {
        plans.chain = nullptr;
        plans.chain_stages.clear();
    } else if (stages != plans.chain_stages) {
        plans.chain = make_plan(stages);
        plans.chain_stages = stages;
    }
    stages.clear();
    if (path.fused == NST_NONE || stand_ins_.resolve({&path.fused, 1}, nestling::Choice::kByOrder,
                                                     false, &stages, nullptr) != NST_OK) {
        plans.fused = nullptr;
        plans.fused_stages.clear();
    } else if (stages != plans.fused_stages) {
        plans.fused = make_plan(stages);
        plans.fused_stages = stages;
    }
    // A fused stage on the processor is no gain where the chain runs on a better target.
    plans.prefer_fused = plans.fused != nullptr && stand_ins_.best_rank(plans.fused_stages) <=
                                                       stand_ins_.best_rank(plans.chain_stages);
}

bool nst_model::plan_again(uint32_t path, uint32_t mode, const nestling::Plan *tried) {
    {
        const std::lock_guard<std::mutex> lock(planning_);
        plan_path(path);
    }
    const nestling::Plan *now = nullptr;
    return find_plan(path, mode, &now, nullptr, nullptr) == NST_OK && now != tried;
}

int nst_model::find_plan(uint32_t path, uint32_t mode, const nestling::Plan **out, bool *fused,
                         nst_error *err) {
    if (path >= tables_.paths.size()) {
        return failf(err, NST_E_NOT_FOUND, {}, tables_.paths.size(), path, "no such path");
    }
    if (mode > NST_MODE_CHAIN) {
        return failf(err, NST_E_ARGUMENT, {}, NST_MODE_CHAIN, mode, "no such mode");
    }
    const nestling::Path &entry = tables_.paths[path];
    if (mode == NST_MODE_FUSED && entry.fused == NST_NONE) {
        return failf(err, NST_E_PATH, {}, 0, 0, "the path %.80s has no fused stage",
                     entry.name.c_str());
    }
    const std::lock_guard<std::mutex> lock(planning_);
    const PathPlans &plans = path_plans_[path];
    const bool use_fused =
        mode == NST_MODE_FUSED || (mode == NST_MODE_DEFAULT && plans.prefer_fused);
    *out = use_fused ? plans.fused : plans.chain;
    if (*out == nullptr) {
        // Resolved once more, for the reason.
        std::vector<uint32_t> stages;
        const std::span<const uint32_t> wanted =
            use_fused ? std::span<const uint32_t>(&entry.fused, 1) : entry.chain;
        const int code =
            stand_ins_.resolve(wanted, nestling::Choice::kByOrder, false, &stages, err);
        return code != NST_OK ? code : failf(err, NST_E_STATE, {}, 0, 0, "no plan of the path");
    }
    if (fused != nullptr) {
        *fused = use_fused;
    }
    return NST_OK;
}

int nst_model::run_stage(uint32_t stage, uint32_t request, void *const *buffers, nst_error *err) {
    const std::lock_guard<std::mutex> lock(execution_);
    const nestling::ExpertScope scope(experts_, request);
    const uint64_t begin = nestling::now_ns();
    if (int code = residency_.ready(stage)->run(buffers, err); code != NST_OK) {
        return scope.explain(code, tables_.stages[stage].name.c_str(), err);
    }
    RunStats &stats = stats_[stage];
    stats.last_ns = nestling::now_ns() - begin;
    stats.min_ns = stats.calls == 0 ? stats.last_ns : std::min(stats.min_ns, stats.last_ns);
    stats.total_ns += stats.last_ns;
    ++stats.calls;
    return NST_OK;
}

int nst_model::configure_experts(const nst_expert_options &options, nst_error *err) {
    const std::lock_guard<std::mutex> lock(execution_);
    return experts_.configure(options, err);
}

void nst_model::run_stats(uint32_t stage, nst_stage_stats *out) {
    const std::lock_guard<std::mutex> lock(execution_);
    out->calls = stats_[stage].calls;
    out->total_ns = stats_[stage].total_ns;
    out->min_ns = stats_[stage].min_ns;
    out->last_ns = stats_[stage].last_ns;
}

void nst_model::reset_run_stats() {
    const std::lock_guard<std::mutex> lock(execution_);
    std::fill(stats_.begin(), stats_.end(), RunStats{});
}
