#include "attend.h"

#include <algorithm>
#include <cstring>

#include "core/exponential.h"

// x86's wheel must run on every processor, so wider vectors are chosen when the library is loaded.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__SANITIZE_ADDRESS__)
#define NST_VECTORISE __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define NST_VECTORISE
#endif

namespace nestling {
namespace {

// Of gcc and clang; where the processor's vectors are smaller, several of them.
typedef float Lanes __attribute__((vector_size(32)));
constexpr int64_t kLanes = 8;

inline void load(Lanes *lanes, const float *from) {
    std::memcpy(lanes, from, sizeof *lanes);
}

// Two independent sums, added at the end: left to itself, gcc 12 makes no vectors of this.
inline float dot(const float *a, const float *b, int64_t count) {
    Lanes even{};
    Lanes odd{};
    Lanes x;
    Lanes y;
    int64_t i = 0;
    for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
        load(&x, a + i);
        load(&y, b + i);
        even += x * y;
        load(&x, a + i + kLanes);
        load(&y, b + i + kLanes);
        odd += x * y;
    }
    float rest = 0;
    for (; i < count; ++i) {
        rest += a[i] * b[i];
    }
    even += odd;
    return ((even[0] + even[4]) + (even[2] + even[6])) +
           ((even[1] + even[5]) + (even[3] + even[7])) + rest;
}

inline void add_scaled(float *sum, float factor, const float *x, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
        sum[i] += factor * x[i];
    }
}

// In place; the result does not sum to one yet: returns by what to multiply.
inline float softmax(float *scores, int64_t count) {
    float largest = scores[0];
    for (int64_t i = 1; i < count; ++i) {
        largest = std::max(largest, scores[i]);
    }
    for (int64_t i = 0; i < count; ++i) {
        scores[i] = nst_exp(scores[i] - largest);
    }
    float total = 0;
    for (int64_t i = 0; i < count; ++i) {
        total += scores[i];
    }
    return 1.0f / total;
}

}  // namespace

NST_VECTORISE
void attend(const AttendShape &shape, const float *queries, const float *new_keys,
            const float *new_values, const float *keys, const float *values, float *scores,
            float *out) {
    const int64_t width = shape.head_dim;
    const int64_t stride = shape.groups * width;
    for (int64_t token = 0; token < shape.tokens; ++token) {
        const int64_t length = shape.position + token + 1;
        const float *query = queries + token * shape.heads * width;
        float *result = out + token * shape.heads * width;
        // Row by row, so that the cache is read from front to back.
        for (int64_t row = 0; row < length; ++row) {
            const float *key = row < shape.position ? keys + row * stride
                                                    : new_keys + (row - shape.position) * stride;
            key += shape.first_group * width;
            for (int64_t head = 0; head < shape.heads; ++head) {
                scores[head * length + row] =
                    dot(query + head * width, key + head / shape.heads_per_group * width, width);
            }
        }
        std::memset(result, 0, static_cast<size_t>(shape.heads * width) * sizeof(float));
        for (int64_t head = 0; head < shape.heads; ++head) {
            const float scale = softmax(scores + head * length, length);
            for (int64_t row = 0; row < length; ++row) {
                scores[head * length + row] *= scale;
            }
        }
        for (int64_t row = 0; row < length; ++row) {
            const float *value = row < shape.position
                                     ? values + row * stride
                                     : new_values + (row - shape.position) * stride;
            value += shape.first_group * width;
            for (int64_t head = 0; head < shape.heads; ++head) {
                add_scaled(result + head * width, scores[head * length + row],
                           value + head / shape.heads_per_group * width, width);
            }
        }
    }
}

}  // namespace nestling
