#include "plain.h"

#include <executorch/runtime/backend/backend_options_map.h>
#include <executorch/runtime/backend/options.h>

#include <stdexcept>

#include "inputs.h"

// The wheel's library has the class, its headers do not.
namespace executorch::extension::threadpool {
class ThreadPool {
  public:
    bool _unsafe_reset_threadpool(uint32_t new_thread_count);
};
ThreadPool *get_threadpool();
}  // namespace executorch::extension::threadpool

namespace nestling_bench {

namespace et = executorch::runtime;
using executorch::extension::Module;

namespace {

void check(et::Error error, const std::string &what) {
    if (error != et::Error::Ok) {
        throw std::runtime_error(what + ": ExecuTorch error " +
                                 std::to_string(static_cast<unsigned>(error)));
    }
}

Kind kind_of(executorch::aten::ScalarType type) {
    switch (type) {
        case executorch::aten::ScalarType::Float:
            return Kind::kFloat32;
        case executorch::aten::ScalarType::Long:
            return Kind::kInt64;
        case executorch::aten::ScalarType::Int:
            return Kind::kInt32;
        default:
            return Kind::kOther;
    }
}

}  // namespace

void set_thread_count(unsigned threads) {
    executorch::extension::threadpool::get_threadpool()->_unsafe_reset_threadpool(threads);
}

PlainModel::PlainModel(const std::string &file)
    : module_(std::make_unique<Module>(file, Module::LoadMode::Mmap)) {
    et::BackendOptions<1> options;
    check(options.set_option("weight_cache_enabled", false), "options");
    et::LoadBackendOptionsMap map;
    check(map.set_options("XnnpackBackend", options.view()), "options");
    check(module_->load(map), file);
    check(module_->load_method("forward"), file);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    // The method itself, not Module::execute: without the vectors that one allocates at every call.
    auto method = module_->method("forward");
#pragma GCC diagnostic pop
    check(method.error(), file);
    method_ = *method;
}

void PlainModel::bind_inputs(const std::vector<std::string> &files) {
    const et::MethodMeta meta = method_->method_meta();
    bytes_.reserve(meta.num_inputs());
    for (size_t index = 0; index < meta.num_inputs(); ++index) {
        const auto info = meta.input_tensor_meta(index);
        check(info.error(), "input");
        bytes_.push_back(input_bytes(file_of(files, index), index, kind_of(info->scalar_type()),
                                     info->nbytes()));
        const auto sizes = info->sizes();
        tensors_.push_back(executorch::extension::from_blob(
            bytes_.back().data(),
            std::vector<executorch::aten::SizesType>(sizes.begin(), sizes.end()),
            info->scalar_type()));
        inputs_.emplace_back(*tensors_.back());
    }
    for (size_t index = 0; index < meta.num_outputs(); ++index) {
        const auto info = meta.output_tensor_meta(index);
        if (info.ok() && !info->is_memory_planned()) {
            outputs_.emplace_back(info->nbytes());
            check(method_->set_output_data_ptr(outputs_.back().data(), info->nbytes(), index),
                  "set_output_data_ptr");
        }
    }
    run();
}

void PlainModel::run() {
    for (size_t index = 0; index < inputs_.size(); ++index) {
        check(method_->set_input(inputs_[index], index), "set_input");
    }
    check(method_->execute(), "execute");
}

std::vector<float> PlainModel::output() {
    const auto &value = method_->get_output(0);
    if (!value.isTensor() ||
        value.toTensor().scalar_type() != executorch::aten::ScalarType::Float) {
        return {};
    }
    const auto tensor = value.toTensor();
    const float *data = tensor.const_data_ptr<float>();
    return {data, data + tensor.numel()};
}

}  // namespace nestling_bench
