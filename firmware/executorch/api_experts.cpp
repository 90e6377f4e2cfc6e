// The C functions of nestling_experts.h.
#include <algorithm>

#include "api_guard.h"
#include "model.h"
#include "nestling.h"

using nestling::ExpertStore;
using nestling::failf;
using nestling::guarded;
using nestling::null_argument;

namespace {

int no_experts(nst_error *err) {
    return failf(err, NST_E_STATE, {}, 0, 0, "the bundle has no experts");
}

}  // namespace

extern "C" {

void nst_expert_options_default(nst_expert_options *out) {
    if (out != nullptr) {
        ExpertStore::default_options(out);
    }
}

int nst_model_configure_experts(nst_model *model, const nst_expert_options *options,
                                nst_error *err) {
    if (model == nullptr) {
        return null_argument(err);
    }
    nst_expert_options wanted;
    nst_expert_options_default(&wanted);
    wanted = options != nullptr ? *options : wanted;
    return guarded(err, [&] { return model->configure_experts(wanted, err); });
}

int nst_model_load_experts(nst_model *model, nst_error *err) {
    if (model == nullptr) {
        return null_argument(err);
    }
    return guarded(err, [&] { return model->experts().load_all(err); });
}

int nst_model_expert_view(nst_model *model, nst_expert_view *out, nst_error *err) {
    if (model == nullptr || out == nullptr) {
        return null_argument(err);
    }
    model->experts().view(out);
    return NST_OK;
}

int nst_model_expert_layer(nst_model *model, uint32_t layer, nst_expert_layer_view *out,
                           nst_error *err) {
    if (model == nullptr || out == nullptr) {
        return null_argument(err);
    }
    if (layer >= model->experts().layers()) {
        return failf(err, NST_E_NOT_FOUND, {}, model->experts().layers(), layer,
                     "no such layer of experts");
    }
    const nst_expert_layer &found = model->experts().layer(layer);
    *out = {.dim = found.dim,
            .hidden = found.hidden,
            .experts = found.experts,
            .top_k = found.top_k,
            .format = found.format,
            .group = found.group,
            .activation = found.activation,
            .flags = found.flags,
            .predicted_layer = found.predicted_layer,
            .reserved = 0,
            .slice_bytes = {nst_expert_layer_slice_bytes(&found, 0),
                            nst_expert_layer_slice_bytes(&found, 1)}};
    return NST_OK;
}

int nst_model_expert_stats(nst_model *model, nst_expert_stats *out, nst_error *err) {
    if (model == nullptr || out == nullptr) {
        return null_argument(err);
    }
    return guarded(err, [&]() -> int {
        model->experts().stats(out);
        return NST_OK;
    });
}

int nst_model_reset_expert_stats(nst_model *model, nst_error *err) {
    if (model == nullptr) {
        return null_argument(err);
    }
    return guarded(err, [&]() -> int {
        model->experts().reset_stats();
        return NST_OK;
    });
}

int nst_model_record_experts(nst_model *model, uint32_t calls, nst_error *err) {
    if (model == nullptr) {
        return null_argument(err);
    }
    if (!model->experts().any()) {
        return no_experts(err);
    }
    return guarded(err, [&]() -> int {
        nst_expert_view view;
        model->experts().view(&view);
        const auto lock = model->experts().lock();
        model->experts().recorder().start(calls, view.most_experts);
        return NST_OK;
    });
}

uint32_t nst_model_recorded_experts(nst_model *model, uint64_t *dropped) {
    if (model == nullptr) {
        return 0;
    }
    const auto lock = model->experts().lock();
    if (dropped != nullptr) {
        *dropped = model->experts().recorder().dropped();
    }
    return model->experts().recorder().count();
}

int nst_model_recorded_expert(nst_model *model, uint32_t index, nst_expert_call *out,
                              float *probabilities, uint32_t *chosen, uint32_t capacity,
                              nst_error *err) {
    if (model == nullptr || out == nullptr || probabilities == nullptr || chosen == nullptr) {
        return null_argument(err);
    }
    const auto lock = model->experts().lock();
    const nestling::ExpertRecorder &recorder = model->experts().recorder();
    if (index >= recorder.count()) {
        return failf(err, NST_E_NOT_FOUND, {}, recorder.count(), index, "no such recorded call");
    }
    if (capacity < recorder.experts()) {
        return failf(err, NST_E_LIMIT, {}, recorder.experts(), capacity,
                     "room for too few experts");
    }
    recorder.read(index, out, probabilities, chosen);
    return NST_OK;
}

}  // extern "C"
