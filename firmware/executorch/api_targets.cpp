// The C functions of nestling.h about bundles with several targets: what runs, and where.
#include <vector>

#include "api_guard.h"
#include "model.h"
#include "nestling.h"
#include "placing.h"
#include "status.h"

using nestling::failf;
using nestling::guarded;
using nestling::null_argument;

extern "C" {

uint32_t nst_model_target_count(const nst_model *model) {
    return model == nullptr ? 0 : static_cast<uint32_t>(model->tables().targets.size());
}

int nst_model_target(nst_model *model, uint32_t target, nst_target_view *out, nst_error *err) {
    if (model == nullptr || out == nullptr) {
        return null_argument(err);
    }
    const auto &targets = model->stand_ins().targets();
    if (target >= targets.size()) {
        return failf(err, NST_E_NOT_FOUND, {}, targets.size(), target, "no such target");
    }
    const nestling::StandIns::Target &entry = targets[target];
    *out = {.name = entry.name.c_str(),
            .reason = entry.state.reason.c_str(),
            .runs = entry.state.runs ? 1u : 0u,
            .stages = entry.stages};
    return NST_OK;
}

uint32_t nst_model_stand_in(nst_model *model, uint32_t stage, uint32_t target) {
    if (model == nullptr || stage >= model->tables().stages.size() ||
        target >= model->tables().targets.size()) {
        return NST_NONE;
    }
    return model->stand_ins().on(stage, target);
}

uint32_t nst_model_fallback_count(nst_model *model) {
    return model == nullptr ? 0 : model->stand_ins().fallback_count();
}

int nst_model_fallback(nst_model *model, uint32_t index, nst_fallback *out, nst_error *err) {
    if (model == nullptr || out == nullptr) {
        return null_argument(err);
    }
    if (!model->stand_ins().fallback(index, out)) {
        return failf(err, NST_E_NOT_FOUND, {}, model->stand_ins().fallback_count(), index,
                     "no such fallback");
    }
    return NST_OK;
}

int nst_model_place(nst_model *model, uint32_t path, const nst_transfer *transfer,
                    uint32_t *out_stages, uint32_t capacity, double *out_us, nst_error *err) {
    if (model == nullptr || out_stages == nullptr) {
        return null_argument(err);
    }
    return guarded(err, [&]() -> int {
        if (path >= model->tables().paths.size()) {
            return failf(err, NST_E_NOT_FOUND, {}, model->tables().paths.size(), path,
                         "no such path");
        }
        const size_t steps = model->tables().paths[path].chain.size();
        if (capacity < steps) {
            return failf(err, NST_E_LIMIT, {}, steps, capacity, "room for too few stages");
        }
        const nst_transfer nothing{};
        return nestling::place_path(*model, path, transfer != nullptr ? *transfer : nothing,
                                    out_stages, out_us, err);
    });
}

}  // extern "C"
