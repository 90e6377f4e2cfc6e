// One call of a layer of experts: tokens in, the weighted sum of their experts out.
#pragma once

#include <cstddef>
#include <cstdint>

#include "expert_store.h"

namespace nestling {

struct ExpertArguments {
    uint32_t layer;       // of the store
    uint32_t request;     // calls of one run or conversation share it
    uint32_t tokens;      // at least 1
    const float *hidden;  // [tokens][dim]
    const float *scores;  // [tokens][experts], of the router
    float *out;           // [tokens][dim]
};

// Memory that a call needs.
size_t expert_call_bytes(const ExpertStore &store, uint32_t layer, uint32_t tokens);

// Routes, has what is missing read, computes what is there meanwhile, and tells the store what the
// next layers will ask for. `memory`: of expert_call_bytes, aligned to 16; nothing else is allocated.
// Any number of threads at once. NST_E_IO (not there in time, cut), NST_E_HASH, NST_E_ENGINE (computed
// elsewhere, without success); the message names the expert and the layer.
int call_experts(ExpertStore &store, const ExpertArguments &arguments, void *memory,
                 nst_error *err);

}  // namespace nestling
