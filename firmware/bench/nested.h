// The other contestant: one bundle behind nestling.h.
#pragma once

#include <nestling.h>

#include <cstdint>
#include <string>
#include <vector>

namespace nestling_bench {

enum class Grain { kFused, kChain };

// An opened bundle and one session on it. Every function throws std::runtime_error.
class NestedModel {
  public:
    NestedModel(const std::string &bundle, unsigned threads);
    ~NestedModel();
    NestedModel(const NestedModel &) = delete;
    NestedModel &operator=(const NestedModel &) = delete;

    // Index of the named path.
    uint32_t path(const std::string &name) const;

    // See PlainModel::bind_inputs; here the engine reads the bytes where they are.
    void bind_inputs(const std::vector<std::string> &files);

    void select(uint32_t path, Grain grain);
    void run();
    std::vector<float> output() const;
    int64_t resident_bytes() const;

  private:
    nst_model *model_ = nullptr;
    nst_session *session_ = nullptr;
    std::vector<std::vector<uint8_t>> bytes_;
    std::vector<uint32_t> outputs_;  // slots
};

}  // namespace nestling_bench
