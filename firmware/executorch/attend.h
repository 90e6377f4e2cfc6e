// Attention of new tokens over a cache that is read in place, up to where it is filled.
#pragma once

#include <cstdint>

namespace nestling {

struct AttendShape {
    int64_t position;  // tokens in the cache
    int64_t tokens;    // new ones
    int64_t heads;
    int64_t groups;       // key-value heads in a row of the cache
    int64_t first_group;  // of the first head
    int64_t heads_per_group;
    int64_t head_dim;
};

// All float32. `queries` and `out`: tokens x heads x head_dim; `new_keys` and `new_values`: tokens x
// groups x head_dim; `keys` and `values`: position x groups x head_dim; `scores`: memory for heads x
// (position + tokens) numbers. Queries are scaled already. toolchain/nestling/partition/attend.py
// says the same in torch.
void attend(const AttendShape &shape, const float *queries, const float *new_keys,
            const float *new_values, const float *keys, const float *values, float *scores,
            float *out);

// Makes `nestling::attend.out` known to ExecuTorch.
void register_attend();

}  // namespace nestling
