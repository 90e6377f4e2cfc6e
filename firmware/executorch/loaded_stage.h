// A stage in memory: one ExecuTorch method, ready to run on any buffers.
#pragma once

#include <executorch/runtime/executor/memory_manager.h>
#include <executorch/runtime/executor/method.h>

#include <memory>
#include <optional>
#include <vector>

#include "allocators.h"
#include "constants.h"
#include "data_map.h"
#include "memory_order.h"
#include "program.h"
#include "stand_ins.h"
#include "tables.h"

namespace nestling {

// What all stages of a model share.
struct StageSurroundings {
    const Tables *tables;
    StandIns *stand_ins;
    ConstantStore *constants;
    std::string model;        // prefix of the names of its weights, 32 hexadecimal digits
    SharedArena *arena;       // activations planned by ExecuTorch
    ChunkAllocator *scratch;  // of kernels; under the execution lock
    bool weight_cache;
    bool workspace_per_stage;
    bool single_thread;
    // [slot] memory order that the first loaded stage wants of it, in which the slot then lies;
    // empty: none yet. Written under the load lock, never changed after that.
    std::vector<MemoryOrder> *slot_orders;
};

// Methods are not reentrant and share the arena: whoever calls `run` holds the execution lock of
// the model.
class LoadedStage {
  public:
    // The stage's constants are prepared and stay retained while the object lives. NST_E_ENGINE,
    // NST_E_CORRUPT (tables and program disagree), NST_E_STATE (a weight's name is taken by another
    // model), NST_E_NO_MEMORY.
    static int load(const StageSurroundings &around, uint32_t index,
                    std::unique_ptr<LoadedStage> *out, nst_error *err);
    ~LoadedStage();
    LoadedStage(const LoadedStage &) = delete;
    LoadedStage &operator=(const LoadedStage &) = delete;

    // `buffers`: the inputs, then the outputs, in the order of the table.
    int run(void *const *buffers, nst_error *err);

    // Memory that is this stage's own: records of ExecuTorch and XNNPACK, and activations that did
    // not fit into the shared arena; without constants. The records are an estimate from the
    // program's size: the allocator cannot tell whose bytes are whose while other threads use it.
    uint64_t own_bytes() const { return own_bytes_; }
    // The same before the stage is loaded.
    static uint64_t record_bytes(const StageSurroundings &around, const Stage &stage);

  private:
    struct Argument {
        std::vector<executorch::aten::SizesType> sizes;
        std::vector<executorch::aten::DimOrderType> order;
        std::vector<executorch::aten::StridesType> strides;
        std::optional<executorch::aten::TensorImpl> tensor;  // inputs
        size_t bytes = 0;
        void *bound = nullptr;  // what the method points to now
        bool planned = false;   // ExecuTorch has a buffer of its own: copy
        // Set where the slot lies in another memory order than the method wants.
        std::unique_ptr<uint8_t, FreeDeleter> reordered;
    };

    LoadedStage(const StageSurroundings &around, uint32_t index);
    int claim_names(nst_error *err);
    int plan_memory(const executorch::runtime::MethodMeta &meta, nst_error *err);
    int check_arguments(const executorch::runtime::MethodMeta &meta, nst_error *err);
    int check_argument(const executorch::runtime::TensorInfo &info, uint32_t slot, Argument *out,
                       nst_error *err);
    int load_method(nst_error *err);
    int bind(size_t argument, void *buffer, nst_error *err);
    void reorder_argument(size_t argument, void *to, const void *from) const;
    uint32_t slot_of(size_t argument) const {
        const size_t inputs = stage_.inputs.size();
        return argument < inputs ? stage_.inputs[argument] : stage_.outputs[argument - inputs];
    }

    const StageSurroundings around_;
    const Stage &stage_;
    const ProgramEntry &entry_;
    const TargetState &target_;
    size_t claimed_ = 0;  // names of the program that are claimed
    ChunkAllocator records_;
    std::unique_ptr<uint8_t, FreeDeleter> private_arena_;
    std::vector<executorch::runtime::Span<uint8_t>> planned_;
    std::optional<executorch::runtime::HierarchicalAllocator> planned_allocator_;
    std::optional<executorch::runtime::MemoryManager> memory_;
    std::unique_ptr<LoadedProgram> program_;
    std::optional<DataMap> data_map_;
    std::optional<executorch::runtime::Method> method_;  // after everything that it points to
    std::vector<Argument> arguments_;                    // inputs, then outputs
    uint64_t own_bytes_;
};

}  // namespace nestling
