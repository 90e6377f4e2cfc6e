#include "nested.h"

#include <stdexcept>

#include "inputs.h"

namespace nestling_bench {

namespace {

void check(int code, const nst_error &error, const std::string &what) {
    if (code != NST_OK) {
        throw std::runtime_error(what + ": " + error.message + " (" + nst_code_name(code) + ")");
    }
}

Kind kind_of(uint32_t dtype) {
    switch (dtype) {
        case NST_F32:
            return Kind::kFloat32;
        case NST_I64:
            return Kind::kInt64;
        case NST_I32:
            return Kind::kInt32;
        default:
            return Kind::kOther;
    }
}

}  // namespace

NestedModel::NestedModel(const std::string &bundle, unsigned threads) {
    nst_error error{};
    nst_model_options options;
    nst_model_options_default(&options);
    options.threads = threads;
    check(nst_model_open_path(bundle.c_str(), &options, &model_, &error), error, bundle);
    const int code = nst_session_create(model_, &session_, &error);
    if (code != NST_OK) {
        nst_model_close(model_, nullptr);  // no destructor runs for what was not constructed
        check(code, error, bundle);
    }
}

NestedModel::~NestedModel() {
    nst_session_destroy(session_);
    nst_model_close(model_, nullptr);
}

uint32_t NestedModel::path(const std::string &name) const {
    const uint32_t index = nst_model_find_path(model_, name.c_str());
    if (index == NST_NONE) {
        throw std::runtime_error("the bundle has no path " + name);
    }
    return index;
}

void NestedModel::bind_inputs(const std::vector<std::string> &files) {
    nst_error error{};
    const uint32_t count = nst_model_slot_count(model_);
    bytes_.reserve(count);
    for (uint32_t slot = 0; slot < count; ++slot) {
        nst_tensor tensor;
        check(nst_model_slot(model_, slot, &tensor, &error), error, "slot");
        if (tensor.role == NST_OUTPUT) {
            outputs_.push_back(slot);
        }
        if (tensor.role != NST_INPUT) {
            continue;
        }
        const size_t index = bytes_.size();
        bytes_.push_back(
            input_bytes(file_of(files, index), index, kind_of(tensor.dtype), tensor.bytes));
        check(nst_session_bind_input(session_, slot, bytes_.back().data(), tensor.bytes, &error),
              error, "bind_input");
    }
}

void NestedModel::select(uint32_t path, Grain grain) {
    nst_error error;
    const uint32_t mode = grain == Grain::kFused ? NST_MODE_FUSED : NST_MODE_CHAIN;
    const int code = nst_session_select(session_, path, mode, &error);
    if (code != NST_OK) {
        check(code, error, "select");  // texts are only made when there is something to say
    }
}

void NestedModel::run() {
    nst_error error;
    const int code = nst_session_run(session_, &error);
    if (code != NST_OK) {
        check(code, error, "run");
    }
}

std::vector<float> NestedModel::output() const {
    nst_error error{};
    nst_tensor tensor;
    if (outputs_.empty()) {
        return {};
    }
    check(nst_session_tensor(session_, outputs_.front(), &tensor, &error), error, "output");
    if (tensor.dtype != NST_F32) {
        return {};
    }
    const auto *data = static_cast<const float *>(tensor.data);
    return {data, data + tensor.bytes / sizeof(float)};
}

int64_t NestedModel::resident_bytes() const {
    nst_error error{};
    nst_memory memory;
    check(nst_model_memory(model_, &memory, &error), error, "memory");
    return static_cast<int64_t>(memory.resident_bytes);
}

}  // namespace nestling_bench
