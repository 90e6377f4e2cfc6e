#include "loaded_stage.h"

#include <executorch/runtime/backend/backend_options_map.h>
#include <executorch/runtime/backend/options.h>

#include <algorithm>
#include <cstring>

#include "log.h"
#include "scalar_types.h"
#include "status.h"
#include "threads.h"
#include "weight_names.h"

namespace nestling {

namespace et = executorch::runtime;

namespace {

constexpr size_t kRecordChunkBytes = 4096;
constexpr size_t kAlignment = 64;
constexpr const char *kXnnpack = "XnnpackBackend";

// Options of the XNNPACK backend. They are given with each load, so that nothing global changes
// for other users of ExecuTorch in the process.
constexpr char kWeightCache[] = "weight_cache_enabled";
constexpr char kWorkspaceSharing[] = "workspace_sharing_mode";
constexpr int kWorkspaceEachDelegate = 0;
constexpr int kWorkspaceProcess = 2;

size_t round_up(size_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

const char *reason(const LogCapture &log, et::Error error) {
    return *log.reason() != '\0' ? log.reason() : et::to_string(error);
}

}  // namespace

LoadedStage::LoadedStage(const StageSurroundings &around, uint32_t index)
    : around_(around),
      stage_(around.tables->stages[index]),
      entry_(around.tables->programs[stage_.program]),
      target_(around.stand_ins->state_of(stage_)),
      records_(kRecordChunkBytes),
      own_bytes_(record_bytes(around, stage_)) {}

uint64_t LoadedStage::record_bytes(const StageSurroundings &around, const Stage &stage) {
    const ProgramEntry &program = around.tables->programs[stage.program];
    const uint64_t bytes = program.unpacked_bytes != 0 ? program.unpacked_bytes : program.size;
    return bytes * around.stand_ins->state_of(stage).record_factor;
}

LoadedStage::~LoadedStage() {
    method_.reset();
    for (size_t i = 0; i < claimed_; ++i) {
        const ProgramImage::Name &name = program_->image().names()[i];
        if (!around_.constants->constant(name.constant).has_layout) {
            release_weight_name(around_.constants, name.name);
        }
    }
}

int LoadedStage::load(const StageSurroundings &around, uint32_t index,
                      std::unique_ptr<LoadedStage> *out, nst_error *err) {
    std::unique_ptr<LoadedStage> loaded(new LoadedStage(around, index));
    std::unique_ptr<ProgramImage> image;
    if (int code = ProgramImage::make(loaded->entry_, loaded->stage_, around.model, &image, err);
        code != NST_OK) {
        return code;
    }
    if (int code = LoadedProgram::load(std::move(image), loaded->stage_, &loaded->program_, err);
        code != NST_OK) {
        return code;
    }
    if (int code = loaded->claim_names(err); code != NST_OK) {
        return code;
    }
    loaded->data_map_.emplace(loaded->program_->image().names(), *around.constants);
    const Where where{.section = {}, .stage = loaded->stage_.name};
    const auto meta = loaded->program_->program().method_meta(loaded->entry_.method.c_str());
    if (!meta.ok()) {
        return failf(err, NST_E_ENGINE, where, 0, static_cast<uint64_t>(meta.error()),
                     "the program has no method %.80s", loaded->entry_.method.c_str());
    }
    if (int code = loaded->check_arguments(meta.get(), err); code != NST_OK) {
        return code;
    }
    if (int code = loaded->plan_memory(meta.get(), err); code != NST_OK) {
        return code;
    }
    if (int code = loaded->load_method(err); code != NST_OK) {
        return code;
    }
    *out = std::move(loaded);
    return NST_OK;
}

int LoadedStage::claim_names(nst_error *err) {
    if (!around_.weight_cache) {
        return NST_OK;
    }
    for (const ProgramImage::Name &name : program_->image().names()) {
        const Constant &constant = around_.constants->constant(name.constant);
        if (!constant.has_layout) {
            const NamedWeight weight{name.name, constant.data, constant.size,
                                     &around_.constants->mapping()};
            if (int code = claim_weight_name(around_.constants, weight, err); code != NST_OK) {
                return code;
            }
        }
        ++claimed_;
    }
    return NST_OK;
}

int LoadedStage::plan_memory(const et::MethodMeta &meta, nst_error *err) {
    const Where where{.section = {}, .stage = stage_.name};
    size_t total = 0;
    std::vector<size_t> sizes;
    for (size_t i = 0; i < meta.num_memory_planned_buffers(); ++i) {
        const auto bytes = meta.memory_planned_buffer_size(i);
        if (!bytes.ok() || bytes.get() < 0 || bytes.get() > INT64_MAX / 2 - int64_t(total)) {
            return failf(err, NST_E_ENGINE, where, 0, 0, "the program plans impossible memory");
        }
        sizes.push_back(static_cast<size_t>(bytes.get()));
        total += round_up(sizes.back());
    }
    uint8_t *place = around_.arena->data();
    if (total > around_.arena->size()) {
        // The manifest promised less; the stage gets memory of its own, which counts as such.
        place = static_cast<uint8_t *>(aligned_bytes(total));
        if (place == nullptr) {
            return failf(err, NST_E_NO_MEMORY, where, total, 0, "no memory for activations");
        }
        private_arena_.reset(place);
        own_bytes_ += total;
    }
    for (const size_t bytes : sizes) {
        planned_.emplace_back(place, bytes);
        place += round_up(bytes);
    }
    planned_allocator_.emplace(et::Span<et::Span<uint8_t>>(planned_.data(), planned_.size()));
    memory_.emplace(&records_, &*planned_allocator_, around_.scratch);
    return NST_OK;
}

int LoadedStage::check_arguments(const et::MethodMeta &meta, nst_error *err) {
    const Where where{.section = {}, .stage = stage_.name};
    const size_t inputs = stage_.inputs.size();
    const size_t outputs = stage_.outputs.size();
    if (meta.num_inputs() != inputs || meta.num_outputs() != outputs) {
        return failf(
            err, NST_E_CORRUPT, where, inputs + outputs, meta.num_inputs() + meta.num_outputs(),
            "the program takes %zu inputs and gives %zu outputs, the manifest says %zu and %zu",
            meta.num_inputs(), meta.num_outputs(), inputs, outputs);
    }
    arguments_.resize(inputs + outputs);
    for (size_t i = 0; i < inputs + outputs; ++i) {
        const auto info =
            i < inputs ? meta.input_tensor_meta(i) : meta.output_tensor_meta(i - inputs);
        if (!info.ok()) {
            return failf(err, NST_E_CORRUPT, where, 0, i, "%s %zu of the program is not a tensor",
                         i < inputs ? "input" : "output", i < inputs ? i : i - inputs);
        }
        if (int code = check_argument(info.get(), slot_of(i), &arguments_[i], err);
            code != NST_OK) {
            return code;
        }
    }
    for (size_t i = 0; i < inputs; ++i) {
        Argument &argument = arguments_[i];
        const nst_dtype dtype = around_.tables->slots[stage_.inputs[i]].dtype;
        argument.tensor.emplace(scalar_type(dtype), static_cast<ssize_t>(argument.sizes.size()),
                                argument.sizes.data(), nullptr, argument.order.data(),
                                argument.strides.data());
    }
    return NST_OK;
}

int LoadedStage::check_argument(const et::TensorInfo &info, uint32_t slot_index, Argument *out,
                                nst_error *err) {
    const Where where{.section = {}, .stage = stage_.name};
    const Slot &slot = around_.tables->slots[slot_index];
    if (info.scalar_type() != scalar_type(slot.dtype) || info.nbytes() != slot.bytes ||
        !std::equal(info.sizes().begin(), info.sizes().end(), slot.shape.begin(),
                    slot.shape.end())) {
        return failf(err, NST_E_CORRUPT, where, slot.bytes, info.nbytes(),
                     "the program and the manifest disagree on the slot %.80s", slot.name.c_str());
    }
    out->bytes = info.nbytes();
    out->planned = info.is_memory_planned();
    out->sizes.assign(info.sizes().begin(), info.sizes().end());
    out->order.assign(info.dim_order().begin(), info.dim_order().end());
    out->strides.resize(out->sizes.size());
    executorch::aten::StridesType stride = 1;
    for (size_t i = out->order.size(); i-- > 0;) {
        out->strides[out->order[i]] = stride;
        stride *= out->sizes[out->order[i]];
    }
    MemoryOrder &order = (*around_.slot_orders)[slot_index];
    if (order.empty()) {
        order = out->order;
    } else if (!same_layout(slot.shape, order, out->order)) {
        // Stages of one target agree; one of another target gets a copy of its own.
        out->reordered.reset(static_cast<uint8_t *>(aligned_bytes(round_up(out->bytes))));
        if (out->reordered == nullptr) {
            return failf(err, NST_E_NO_MEMORY, where, out->bytes, 0, "no memory for a slot");
        }
        own_bytes_ += round_up(out->bytes);
    }
    return NST_OK;
}

void LoadedStage::reorder_argument(size_t index, void *to, const void *from) const {
    const uint32_t number = slot_of(index);
    const Slot &slot = around_.tables->slots[number];
    const MemoryOrder &inside = arguments_[index].order;
    const MemoryOrder &outside = (*around_.slot_orders)[number];
    const bool input = index < stage_.inputs.size();
    reorder(to, input ? inside : outside, from, input ? outside : inside, slot.shape,
            nst_dtype_bytes(slot.dtype));
}

int LoadedStage::load_method(nst_error *err) {
    const Where where{.section = {}, .stage = stage_.name};
    const LogCapture log;
    const SingleThread single(around_.single_thread);
    et::BackendOptions<2> options;
    et::LoadBackendOptionsMap backends;
    const int workspace = around_.workspace_per_stage ? kWorkspaceEachDelegate : kWorkspaceProcess;
    if (options.set_option(kWeightCache, around_.weight_cache) != et::Error::Ok ||
        options.set_option(kWorkspaceSharing, workspace) != et::Error::Ok ||
        backends.set_options(kXnnpack, options.view()) != et::Error::Ok) {
        return failf(err, NST_E_ENGINE, where, 0, 0, "XNNPACK takes no options here");
    }
    auto method = program_->program().load_method(entry_.method.c_str(), &*memory_, nullptr,
                                                  &*data_map_, &backends);
    if (!method.ok()) {
        if (!data_map_->missing().empty()) {
            return failf(err, NST_E_CORRUPT, where, 0, 0,
                         "the program asks for the constant %.64s, which the stage does not bind",
                         data_map_->missing().c_str());
        }
        const int code =
            method.error() == et::Error::MemoryAllocationFailed ? NST_E_NO_MEMORY : NST_E_ENGINE;
        return failf(err, code, where, 0, static_cast<uint64_t>(method.error()),
                     "ExecuTorch cannot load the stage: %s", reason(log, method.error()));
    }
    if (program_->loader().has_mutable_data()) {
        return failf(err, NST_E_ENGINE, where, 0, 0,
                     "the program keeps state of its own; state belongs into slots");
    }
    method_.emplace(std::move(method.get()));
    if (!target_.keeps_program) {
        program_->finish();
    }
    return NST_OK;
}

int LoadedStage::bind(size_t index, void *buffer, nst_error *err) {
    Argument &argument = arguments_[index];
    const size_t inputs = stage_.inputs.size();
    et::Error error = et::Error::Ok;
    if (index < inputs) {
        argument.tensor->set_data(buffer);
        error = method_->set_input(et::EValue(executorch::aten::Tensor(&*argument.tensor)), index);
    } else if (!argument.planned) {
        error = method_->set_output_data_ptr(buffer, argument.bytes, index - inputs);
    }
    if (error != et::Error::Ok) {
        return failf(err, NST_E_ENGINE, {.section = {}, .stage = stage_.name}, 0,
                     static_cast<uint64_t>(error), "ExecuTorch refuses a buffer: %s",
                     et::to_string(error));
    }
    argument.bound = buffer;
    return NST_OK;
}

int LoadedStage::run(void *const *buffers, nst_error *err) {
    const size_t inputs = stage_.inputs.size();
    for (size_t i = 0; i < arguments_.size(); ++i) {
        void *buffer = buffers[i];
        if (arguments_[i].reordered != nullptr) {
            buffer = arguments_[i].reordered.get();
            if (i < inputs) {
                reorder_argument(i, buffer, buffers[i]);
            }
        }
        // A planned input is a copy and must be made again even from the same place.
        if (arguments_[i].bound != buffer || (arguments_[i].planned && i < inputs)) {
            if (int code = bind(i, buffer, err); code != NST_OK) {
                return code;
            }
        }
    }
    const et::Error error = method_->execute();
    if (error != et::Error::Ok) {
        return failf(err, NST_E_ENGINE, {.section = {}, .stage = stage_.name}, 0,
                     static_cast<uint64_t>(error), "ExecuTorch failed in the stage: %s",
                     et::to_string(error));
    }
    for (size_t i = inputs; i < arguments_.size(); ++i) {
        const void *result = arguments_[i].reordered.get();
        if (arguments_[i].planned) {
            result = method_->get_output(i - inputs).toTensor().const_data_ptr();
        }
        if (arguments_[i].reordered != nullptr) {
            reorder_argument(i, buffers[i], result);
        } else if (result != nullptr) {
            std::memcpy(buffers[i], result, arguments_[i].bytes);
        }
    }
    return NST_OK;
}

}  // namespace nestling
