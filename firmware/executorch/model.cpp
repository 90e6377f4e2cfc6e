#include "model.h"

#include <executorch/runtime/backend/interface.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "clock.h"
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

int nst_model::check_target(nst_error *err) const {
    const std::string target(bundle_.info.target.data, bundle_.info.target.bytes);
    if (target != "xnnpack") {
        return failf(err, NST_E_TARGET, {}, 0, 0,
                     "the bundle is for the target %.64s, this runtime has xnnpack",
                     target.c_str());
    }
    if (executorch::runtime::get_backend_class("XnnpackBackend") == nullptr) {
        return failf(err, NST_E_TARGET, {}, 0, 0, "this process has no XNNPACK backend");
    }
    return NST_OK;
}

int nst_model::open(const nst_model_options &options, nst_error *err) {
    nestling::start_runtime();
    if (int code = read_manifest(err); code != NST_OK) {
        return code;
    }
    if (int code = check_target(err); code != NST_OK) {
        return code;
    }
    if (int code = tables_.read(bundle_, err); code != NST_OK) {
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
    slot_orders_.resize(tables_.slots.size());
    stats_.resize(tables_.stages.size());
    residency_.open({.tables = &tables_,
                     .constants = &constants_,
                     .model = name,
                     .arena = &arena_,
                     .scratch = &scratch_,
                     .weight_cache = options.weight_cache != 0,
                     .workspace_per_stage = options.workspace == NST_WORKSPACE_PER_STAGE,
                     .single_thread = claim_.single(),
                     .slot_orders = &slot_orders_},
                    options.budget_bytes);
    chains_.resize(tables_.paths.size());
    fused_.resize(tables_.paths.size());
    for (size_t i = 0; i < tables_.paths.size(); ++i) {
        const nestling::Path &path = tables_.paths[i];
        chains_[i].reserve(0, 0, tables_.slots.size());
        chains_[i].build(tables_, path.chain);
        if (path.fused != NST_NONE) {
            fused_[i].reserve(0, 0, tables_.slots.size());
            fused_[i].build(tables_, {&path.fused, 1});
        }
    }
    return NST_OK;
}

int nst_model::find_plan(uint32_t path, uint32_t mode, const nestling::Plan **out, bool *fused,
                         nst_error *err) const {
    if (path >= tables_.paths.size()) {
        return failf(err, NST_E_NOT_FOUND, {}, tables_.paths.size(), path, "no such path");
    }
    if (mode > NST_MODE_CHAIN) {
        return failf(err, NST_E_ARGUMENT, {}, NST_MODE_CHAIN, mode, "no such mode");
    }
    const bool has_fused = !fused_[path].empty();
    if (mode == NST_MODE_FUSED && !has_fused) {
        return failf(err, NST_E_PATH, {}, 0, 0, "the path %.80s has no fused stage",
                     tables_.paths[path].name.c_str());
    }
    const bool use_fused = mode != NST_MODE_CHAIN && has_fused;
    *out = use_fused ? &fused_[path] : &chains_[path];
    if (fused != nullptr) {
        *fused = use_fused;
    }
    return NST_OK;
}

int nst_model::run_stage(uint32_t stage, void *const *buffers, nst_error *err) {
    const std::lock_guard<std::mutex> lock(execution_);
    const uint64_t begin = nestling::now_ns();
    const int code = residency_.ready(stage)->run(buffers, err);
    if (code != NST_OK) {
        return code;
    }
    RunStats &stats = stats_[stage];
    stats.last_ns = nestling::now_ns() - begin;
    stats.min_ns = stats.calls == 0 ? stats.last_ns : std::min(stats.min_ns, stats.last_ns);
    stats.total_ns += stats.last_ns;
    ++stats.calls;
    return NST_OK;
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
