#include "expert_operator.h"

#include <executorch/runtime/kernel/kernel_runtime_context.h>
#include <executorch/runtime/kernel/operator_registry.h>

#include "expert_call.h"
#include "status.h"

namespace nestling {
namespace {

namespace et = executorch::runtime;
using executorch::aten::ScalarType;
using executorch::aten::Tensor;

thread_local ExpertScope *active = nullptr;

// In the order of the operator's schema: toolchain/nestling/experts/operator.py.
enum Argument : size_t { kHidden, kScores, kLayer, kOut, kArguments };

constexpr size_t kAlignment = 16;

bool is_matrix(const et::EValue &value) {
    return value.isTensor() && value.toTensor().dim() == 2 &&
           value.toTensor().scalar_type() == ScalarType::Float;
}

int read_arguments(et::Span<et::EValue *> stack, ExpertScope &scope, ExpertArguments *out) {
    if (stack.size() < kArguments || !is_matrix(*stack[kHidden]) || !is_matrix(*stack[kScores]) ||
        !is_matrix(*stack[kOut]) || !stack[kLayer]->isInt()) {
        return failf(scope.error(), NST_E_ENGINE, {}, 0, 0,
                     "nestling::experts is called with other arguments than two matrices");
    }
    const int64_t number = stack[kLayer]->toInt();
    if (number < 0 || number >= int64_t{scope.store().layers()}) {
        return failf(scope.error(), NST_E_CORRUPT, {}, scope.store().layers(),
                     static_cast<uint64_t>(number), "the bundle has no experts of layer %lld",
                     static_cast<long long>(number));
    }
    const auto index = static_cast<uint32_t>(number);
    const nst_expert_layer &layer = scope.store().layer(index);
    const Tensor &hidden = stack[kHidden]->toTensor();
    const Tensor &scores = stack[kScores]->toTensor();
    const Tensor &result = stack[kOut]->toTensor();
    if (hidden.size(1) != ssize_t{layer.dim} || scores.size(1) != ssize_t{layer.experts} ||
        scores.size(0) != hidden.size(0) || result.size(0) != hidden.size(0) ||
        result.size(1) != hidden.size(1) || hidden.size(0) < 1) {
        return failf(scope.error(), NST_E_CORRUPT, {}, layer.dim,
                     static_cast<uint64_t>(hidden.size(1)),
                     "the stage and layer %u of the experts differ in their sizes", index);
    }
    *out = {.layer = index,
            .request = scope.request(),
            .tokens = static_cast<uint32_t>(hidden.size(0)),
            .hidden = hidden.const_data_ptr<float>(),
            .scores = scores.const_data_ptr<float>(),
            .out = result.mutable_data_ptr<float>()};
    return NST_OK;
}

void experts_out(et::KernelRuntimeContext &context, et::Span<et::EValue *> stack) {
    ExpertScope *scope = ExpertScope::current();
    ExpertArguments arguments;
    if (scope == nullptr || read_arguments(stack, *scope, &arguments) != NST_OK) {
        context.fail(et::Error::InvalidArgument);
        return;
    }
    const auto memory = context.allocate_temp(
        expert_call_bytes(scope->store(), arguments.layer, arguments.tokens), kAlignment);
    if (!memory.ok()) {
        context.fail(memory.error());
        return;
    }
    if (call_experts(scope->store(), arguments, memory.get(), scope->error()) != NST_OK) {
        context.fail(et::Error::Internal);
    }
}

}  // namespace

ExpertScope::ExpertScope(ExpertStore &store, uint32_t request)
    : store_(store), request_(request), outer_(active) {
    error_.code = NST_OK;
    active = this;
}

ExpertScope::~ExpertScope() {
    active = outer_;
}

ExpertScope *ExpertScope::current() {
    return active;
}

int ExpertScope::explain(int code, const char *stage, nst_error *err) const {
    if (code == NST_OK || error_.code == NST_OK) {
        return code;
    }
    return nst_fail(err, error_.code, error_.section, stage, error_.expected, error_.actual,
                    error_.message);
}

void register_experts() {
    // A second library in the process may have done it; both kernels are the same.
    static_cast<void>(et::register_kernel(et::Kernel("nestling::experts.out", experts_out)));
}

}  // namespace nestling
