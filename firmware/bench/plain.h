// The contestant: ExecuTorch as people use it, one .pte file a subnet.
#pragma once

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>

#include <memory>
#include <string>
#include <vector>

namespace nestling_bench {

// Loads ExecuTorch's thread pool with that many threads, this one included; before the first load.
void set_thread_count(unsigned threads);

// One loaded .pte with its method `forward` and inputs. Every function throws std::runtime_error.
class PlainModel {
  public:
    // Maps the file and loads the method, XNNPACK's options at the wheel's own defaults: the
    // weights cache is off even where libnestling has switched it on for the process.
    explicit PlainModel(const std::string &file);

    // The same values for every contestant: `files` hold the raw bytes of inputs 0, 1, ...; an
    // input without a file gets values of its own making.
    void bind_inputs(const std::vector<std::string> &files);

    // Inputs are set again at each run, as every caller of a stock program has to: it copies them
    // unless it was planned to read them where they are.
    void run();

    // The first output; float32 ones only, others give an empty list.
    std::vector<float> output();

  private:
    std::unique_ptr<executorch::extension::Module> module_;
    executorch::runtime::Method *method_ = nullptr;
    std::vector<std::vector<uint8_t>> bytes_;
    std::vector<executorch::extension::TensorPtr> tensors_;
    std::vector<executorch::runtime::EValue> inputs_;
    std::vector<std::vector<uint8_t>> outputs_;  // of programs that were planned without their own
};

}  // namespace nestling_bench
