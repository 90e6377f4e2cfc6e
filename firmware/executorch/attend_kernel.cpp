// `nestling::attend.out` as ExecuTorch calls it.
#include <executorch/runtime/kernel/kernel_runtime_context.h>
#include <executorch/runtime/kernel/operator_registry.h>

#include <algorithm>

#include "attend.h"

namespace nestling {
namespace {

namespace et = executorch::runtime;
using executorch::aten::ScalarType;
using executorch::aten::Tensor;

// In the order of the operator's schema.
enum Argument : size_t {
    kQueries,
    kNewKeys,
    kNewValues,
    kKeys,
    kValues,
    kPosition,
    kFirstGroup,
    kHeadsPerGroup,
    kHeadDim,
    kOut,
    kArguments,
};

bool is_matrix(const et::EValue &value, int64_t rows, int64_t columns) {
    if (!value.isTensor()) {
        return false;
    }
    const Tensor &tensor = value.toTensor();
    return tensor.scalar_type() == ScalarType::Float && tensor.dim() == 2 &&
           tensor.size(0) >= rows && tensor.size(1) == columns;
}

bool read_shape(et::Span<et::EValue *> stack, AttendShape *out) {
    if (stack.size() < kArguments || !stack[kQueries]->isTensor() || !stack[kKeys]->isTensor() ||
        !stack[kPosition]->isTensor() || !stack[kFirstGroup]->isInt() ||
        !stack[kHeadsPerGroup]->isInt() || !stack[kHeadDim]->isInt()) {
        return false;
    }
    const Tensor &queries = stack[kQueries]->toTensor();
    const Tensor &keys = stack[kKeys]->toTensor();
    const Tensor &position = stack[kPosition]->toTensor();
    if (queries.dim() != 2 || keys.dim() != 2 || position.numel() != 1 ||
        position.scalar_type() != ScalarType::Long) {
        return false;
    }
    out->head_dim = stack[kHeadDim]->toInt();
    out->first_group = stack[kFirstGroup]->toInt();
    out->heads_per_group = stack[kHeadsPerGroup]->toInt();
    out->position = position.const_data_ptr<int64_t>()[0];
    out->tokens = queries.size(0);
    if (out->head_dim <= 0 || out->heads_per_group <= 0 || out->first_group < 0) {
        return false;
    }
    out->heads = queries.size(1) / out->head_dim;
    out->groups = keys.size(1) / out->head_dim;
    const int64_t cached = out->groups * out->head_dim;
    const int64_t last = out->first_group + (out->heads - 1) / out->heads_per_group;
    return out->heads > 0 && last < out->groups && out->position >= 0 &&
           is_matrix(*stack[kQueries], out->tokens, out->heads * out->head_dim) &&
           is_matrix(*stack[kOut], out->tokens, out->heads * out->head_dim) &&
           is_matrix(*stack[kNewKeys], out->tokens, cached) &&
           is_matrix(*stack[kNewValues], out->tokens, cached) &&
           is_matrix(*stack[kKeys], out->position, cached) &&
           is_matrix(*stack[kValues], out->position, cached);
}

void attend_out(et::KernelRuntimeContext &context, et::Span<et::EValue *> stack) {
    AttendShape shape;
    if (!read_shape(stack, &shape)) {
        context.fail(et::Error::InvalidArgument);
        return;
    }
    // As much as a full cache takes, so that the memory is the same at every token.
    const int64_t rows =
        std::max<int64_t>(stack[kKeys]->toTensor().size(0), shape.position + shape.tokens);
    const int64_t scores = shape.heads * rows;
    const auto memory =
        context.allocate_temp(static_cast<size_t>(scores) * sizeof(float), alignof(float));
    if (!memory.ok()) {
        context.fail(memory.error());
        return;
    }
    attend(shape, stack[kQueries]->toTensor().const_data_ptr<float>(),
           stack[kNewKeys]->toTensor().const_data_ptr<float>(),
           stack[kNewValues]->toTensor().const_data_ptr<float>(),
           stack[kKeys]->toTensor().const_data_ptr<float>(),
           stack[kValues]->toTensor().const_data_ptr<float>(), static_cast<float *>(memory.get()),
           stack[kOut]->toTensor().mutable_data_ptr<float>());
}

}  // namespace

void register_attend() {
    // A second library in the process may have done it; both kernels are the same.
    static_cast<void>(et::register_kernel(et::Kernel("nestling::attend.out", attend_out)));
}

}  // namespace nestling
