// The C functions of nestling.h that open, describe and manage a model.
#include <cstring>
#include <new>
#include <string_view>

#include "api_guard.h"
#include "model.h"
#include "nestling.h"
#include "status.h"

using nestling::failf;
using nestling::guarded;
using nestling::null_argument;

namespace {

int check_options(const nst_model_options *given, nst_model_options *out, nst_error *err) {
    nst_model_options_default(out);
    if (given == nullptr) {
        return NST_OK;
    }
    if (given->struct_bytes != sizeof *out) {
        return failf(err, NST_E_ARGUMENT, {}, sizeof *out, given->struct_bytes,
                     "options of another library version; use nst_model_options_default");
    }
    if (given->workspace > NST_WORKSPACE_PER_STAGE) {
        return failf(err, NST_E_ARGUMENT, {}, NST_WORKSPACE_PER_STAGE, given->workspace,
                     "no such workspace mode");
    }
    *out = *given;
    return NST_OK;
}

// The common part of the three ways to open: `map` fills the model's mapping.
template <typename Map>
int open_model(const nst_model_options *options, nst_model **out, nst_error *err, Map map) {
    if (out == nullptr) {
        return null_argument(err);
    }
    *out = nullptr;
    return guarded(err, [&]() -> int {
        nst_model_options checked;
        if (int code = check_options(options, &checked, err); code != NST_OK) {
            return code;
        }
        auto model = std::make_unique<nst_model>();
        if (int code = map(model->mapping()); code != NST_OK) {
            return code;
        }
        if (int code = model->open(checked, err); code != NST_OK) {
            return code;
        }
        *out = model.release();
        return NST_OK;
    });
}

template <typename Entries>
uint32_t find_name(const Entries &entries, const char *name) {
    for (uint32_t i = 0; i < entries.size(); ++i) {
        if (entries[i].name == std::string_view(name)) {
            return i;
        }
    }
    return NST_NONE;
}

template <typename Entries>
bool in_range(const Entries &entries, uint32_t index, const char *what, nst_error *err) {
    if (index < entries.size()) {
        return true;
    }
    failf(err, NST_E_NOT_FOUND, {}, entries.size(), index, "no such %s", what);
    return false;
}

}  // namespace

extern "C" {

void nst_model_options_default(nst_model_options *out) {
    if (out != nullptr) {
        std::memset(out, 0, sizeof *out);
        out->struct_bytes = sizeof *out;
        out->weight_cache = 1;
    }
}

int nst_model_open_path(const char *path, const nst_model_options *options, nst_model **out,
                        nst_error *err) {
    return open_model(options, out, err, [&](nestling::Mapping &mapping) {
        return path == nullptr ? null_argument(err) : mapping.open_path(path, err);
    });
}

int nst_model_open_fd(int fd, uint64_t offset, uint64_t length, const nst_model_options *options,
                      nst_model **out, nst_error *err) {
    return open_model(options, out, err, [&](nestling::Mapping &mapping) {
        return mapping.open_fd(fd, offset, length, err);
    });
}

int nst_model_open_memory(const void *data, size_t bytes, const nst_model_options *options,
                          nst_model **out, nst_error *err) {
    return open_model(options, out, err, [&](nestling::Mapping &mapping) -> int {
        if (data == nullptr) {
            return null_argument(err);
        }
        mapping.borrow(data, bytes);
        return NST_OK;
    });
}

int nst_model_close(nst_model *model, nst_error *err) {
    if (model == nullptr) {
        return NST_OK;
    }
    const uint32_t users = model->users.load(std::memory_order_acquire);
    if (users != 0) {
        return failf(err, NST_E_STATE, {}, 0, users,
                     "%u sessions or prefetches of the model still exist", users);
    }
    return guarded(err, [&]() -> int {
        delete model;
        return NST_OK;
    });
}

const nst_bundle *nst_model_bundle(const nst_model *model) {
    return model == nullptr ? nullptr : &model->bundle();
}

uint32_t nst_model_path_count(const nst_model *model) {
    return model == nullptr ? 0 : static_cast<uint32_t>(model->tables().paths.size());
}

uint32_t nst_model_stage_count(const nst_model *model) {
    return model == nullptr ? 0 : static_cast<uint32_t>(model->tables().stages.size());
}

uint32_t nst_model_slot_count(const nst_model *model) {
    return model == nullptr ? 0 : static_cast<uint32_t>(model->tables().slots.size());
}

uint32_t nst_model_position_count(const nst_model *model) {
    return model == nullptr ? 0 : model->bundle().count[NST_POSITIONS];
}

uint32_t nst_model_find_path(const nst_model *model, const char *name) {
    return model == nullptr || name == nullptr ? NST_NONE : find_name(model->tables().paths, name);
}

uint32_t nst_model_find_stage(const nst_model *model, const char *name) {
    return model == nullptr || name == nullptr ? NST_NONE : find_name(model->tables().stages, name);
}

uint32_t nst_model_find_slot(const nst_model *model, const char *name) {
    return model == nullptr || name == nullptr ? NST_NONE : find_name(model->tables().slots, name);
}

int nst_model_path(nst_model *model, uint32_t path, nst_path_view *out, nst_error *err) {
    if (model == nullptr || out == nullptr) {
        return null_argument(err);
    }
    if (!in_range(model->tables().paths, path, "path", err)) {
        return NST_E_NOT_FOUND;
    }
    const nestling::Path &entry = model->tables().paths[path];
    const nestling::Plan *plan = nullptr;
    if (int code = model->find_plan(path, NST_MODE_DEFAULT, &plan, nullptr, err); code != NST_OK) {
        return code;
    }
    *out = {.name = entry.name.c_str(),
            .stages = static_cast<uint32_t>(entry.chain.size()),
            .fused = entry.fused,
            .parameters = entry.parameters,
            .macs = entry.macs,
            .weight_bytes = entry.weight_bytes,
            .missing_bytes = model->residency().missing_bytes(plan->stages())};
    return NST_OK;
}

int nst_model_path_stages(nst_model *model, uint32_t path, uint32_t *out_stages, uint32_t capacity,
                          nst_error *err) {
    if (model == nullptr || out_stages == nullptr) {
        return null_argument(err);
    }
    if (!in_range(model->tables().paths, path, "path", err)) {
        return NST_E_NOT_FOUND;
    }
    const std::vector<uint32_t> &chain = model->tables().paths[path].chain;
    if (capacity < chain.size()) {
        return failf(err, NST_E_LIMIT, {}, chain.size(), capacity, "room for too few stages");
    }
    std::copy(chain.begin(), chain.end(), out_stages);
    return NST_OK;
}

int nst_model_stage(nst_model *model, uint32_t stage, nst_stage_view *out, nst_error *err) {
    if (model == nullptr || out == nullptr) {
        return null_argument(err);
    }
    if (!in_range(model->tables().stages, stage, "stage", err)) {
        return NST_E_NOT_FOUND;
    }
    const nestling::Stage &entry = model->tables().stages[stage];
    *out = {.name = entry.name.c_str(),
            .first = entry.first,
            .last = entry.last,
            .level = entry.level,
            .bits = entry.bits,
            .target = entry.target,
            .reserved = 0,
            .macs = entry.macs,
            .arena_bytes = entry.arena_bytes,
            .weight_bytes = entry.weight_bytes};
    return NST_OK;
}

int nst_model_slot(nst_model *model, uint32_t slot, nst_tensor *out, nst_error *err) {
    if (model == nullptr || out == nullptr) {
        return null_argument(err);
    }
    if (!in_range(model->tables().slots, slot, "slot", err)) {
        return NST_E_NOT_FOUND;
    }
    const nestling::Slot &entry = model->tables().slots[slot];
    *out = {};
    out->name = entry.name.c_str();
    out->bytes = static_cast<size_t>(entry.bytes);
    out->dtype = entry.dtype;
    out->role = entry.role;
    out->rank = static_cast<uint32_t>(entry.shape.size());
    std::copy(entry.shape.begin(), entry.shape.end(), out->shape);
    return NST_OK;
}

int nst_model_memory(nst_model *model, nst_memory *out, nst_error *err) {
    if (model == nullptr || out == nullptr) {
        return null_argument(err);
    }
    model->residency().memory(out);
    out->arena_bytes = model->arena().size();
    return NST_OK;
}

int nst_model_set_budget(nst_model *model, uint64_t budget_bytes, nst_error *err) {
    if (model == nullptr) {
        return null_argument(err);
    }
    return guarded(err, [&] { return model->residency().set_budget(budget_bytes, err); });
}

int nst_model_load(nst_model *model, uint32_t path, uint32_t mode, nst_error *err) {
    if (model == nullptr) {
        return null_argument(err);
    }
    return guarded(err, [&]() -> int {
        const nestling::Plan *plan = nullptr;
        if (int code = model->find_plan(path, mode, &plan, nullptr, err); code != NST_OK) {
            return code;
        }
        int code = NST_OK;
        while ((code = model->residency().acquire(plan->stages(), {}, err)) != NST_OK &&
               model->plan_again(path, mode, plan)) {
            if (int again = model->find_plan(path, mode, &plan, nullptr, err); again != NST_OK) {
                return again;
            }
        }
        if (code == NST_OK) {
            model->residency().unpin(plan->stages());
        }
        return code;
    });
}

int nst_model_evict_stage(nst_model *model, uint32_t stage, nst_error *err) {
    if (model == nullptr) {
        return null_argument(err);
    }
    if (!in_range(model->tables().stages, stage, "stage", err)) {
        return NST_E_NOT_FOUND;
    }
    return guarded(err, [&] { return model->residency().evict(stage, err); });
}

int nst_model_evict_unused(nst_model *model, uint64_t *out_bytes, nst_error *err) {
    if (model == nullptr) {
        return null_argument(err);
    }
    return guarded(err, [&]() -> int {
        const uint64_t bytes = model->residency().evict_unused();
        if (out_bytes != nullptr) {
            *out_bytes = bytes;
        }
        return NST_OK;
    });
}

int nst_model_stage_stats(nst_model *model, uint32_t stage, nst_stage_stats *out, nst_error *err) {
    if (model == nullptr || out == nullptr) {
        return null_argument(err);
    }
    if (!in_range(model->tables().stages, stage, "stage", err)) {
        return NST_E_NOT_FOUND;
    }
    model->residency().stage_stats(stage, out);
    model->run_stats(stage, out);
    return NST_OK;
}

int nst_model_reset_stats(nst_model *model, nst_error *err) {
    if (model == nullptr) {
        return null_argument(err);
    }
    model->reset_run_stats();
    return NST_OK;
}

}  // extern "C"
