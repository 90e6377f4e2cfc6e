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

// Only what is part of the chosen function uses the vectors that it was chosen for.
#if defined(__GNUC__)
#define NST_PART inline __attribute__((always_inline))
#else
#define NST_PART inline
#endif

namespace nestling {
namespace {

// Of gcc and clang; where the processor's vectors are smaller, several of them.
typedef float Lanes __attribute__((vector_size(32)));
typedef int32_t Places __attribute__((vector_size(32)));
constexpr int64_t kLanes = 8;

// Vectors go by address: passed by value, their calls would depend on the processor.
NST_PART void load(Lanes *lanes, const float *from) {
    std::memcpy(lanes, from, sizeof *lanes);
}

// Within each half of the vectors: what every other lane holds, of `a` and then of `b`.
NST_PART void interleave(Lanes *even, Lanes *odd, const Lanes *a, const Lanes *b) {
#if defined(__clang__)
    *even = __builtin_shufflevector(*a, *b, 0, 2, 8, 10, 4, 6, 12, 14);
    *odd = __builtin_shufflevector(*a, *b, 1, 3, 9, 11, 5, 7, 13, 15);
#else
    *even = __builtin_shuffle(*a, *b, Places{0, 2, 8, 10, 4, 6, 12, 14});
    *odd = __builtin_shuffle(*a, *b, Places{1, 3, 9, 11, 5, 7, 13, 15});
#endif
}

NST_PART void join_halves(Lanes *low, Lanes *high, const Lanes *a, const Lanes *b) {
#if defined(__clang__)
    *low = __builtin_shufflevector(*a, *b, 0, 1, 2, 3, 8, 9, 10, 11);
    *high = __builtin_shufflevector(*a, *b, 4, 5, 6, 7, 12, 13, 14, 15);
#else
    *low = __builtin_shuffle(*a, *b, Places{0, 1, 2, 3, 8, 9, 10, 11});
    *high = __builtin_shuffle(*a, *b, Places{4, 5, 6, 7, 12, 13, 14, 15});
#endif
}

NST_PART void add_pairs(Lanes *sums, const Lanes *a, const Lanes *b) {
    Lanes even;
    Lanes odd;
    interleave(&even, &odd, a, b);
    *sums = even + odd;
}

// The sum of the lanes of each of eight vectors, which are overwritten.
NST_PART void add_lanes(Lanes *sums, Lanes *rows) {
    for (int64_t at = 0; at < kLanes / 2; ++at) {
        add_pairs(&rows[at], &rows[2 * at], &rows[2 * at + 1]);
    }
    add_pairs(&rows[0], &rows[0], &rows[1]);
    add_pairs(&rows[1], &rows[2], &rows[3]);
    Lanes low;
    Lanes high;
    join_halves(&low, &high, &rows[0], &rows[1]);
    *sums = low + high;
}

NST_PART float dot(const float *a, const float *b, int64_t count) {
    float sum = 0;
    for (int64_t i = 0; i < count; ++i) {
        sum += a[i] * b[i];
    }
    return sum;
}

// The products of a query with `count` rows. Eight rows at a time: summing up the lanes of one
// costs more than its products.
NST_PART void score_rows(const float *query, const float *rows, int64_t stride, int64_t count,
                         int64_t width, float *scores) {
    const int64_t vectors = width / kLanes * kLanes;
    int64_t row = 0;
    for (; row < count; row += kLanes) {
        const int64_t here = std::min(kLanes, count - row);
        const float *keys[kLanes];
        for (int64_t at = 0; at < kLanes; ++at) {
            // What is too many computes the last one again.
            keys[at] = rows + (row + std::min(at, here - 1)) * stride;
        }
        Lanes partial[kLanes] = {};
        for (int64_t i = 0; i < vectors; i += kLanes) {
            Lanes x;
            Lanes y;
            load(&x, query + i);
            for (int64_t at = 0; at < kLanes; ++at) {
                load(&y, keys[at] + i);
                partial[at] += x * y;
            }
        }
        Lanes sums;
        add_lanes(&sums, partial);
        std::memcpy(scores + row, &sums, static_cast<size_t>(here) * sizeof(float));
    }
    if (vectors < width) {
        for (row = 0; row < count; ++row) {
            scores[row] += dot(query + vectors, rows + row * stride + vectors, width - vectors);
        }
    }
}

// Adds `count` rows, each times its weight. Four vectors of sums at a time stay in registers, once
// for even and once for odd rows.
NST_PART void add_rows(const float *weights, const float *rows, int64_t stride, int64_t count,
                       int64_t width, float *out) {
    constexpr int64_t kWide = 4 * kLanes;
    int64_t column = 0;
    for (; column + kWide <= width; column += kWide) {
        Lanes even[4] = {};
        Lanes odd[4] = {};
        Lanes x;
        int64_t row = 0;
        for (; row + 2 <= count; row += 2) {
            const float *first = rows + row * stride + column;
            for (int64_t at = 0; at < 4; ++at) {
                load(&x, first + at * kLanes);
                even[at] += weights[row] * x;
                load(&x, first + stride + at * kLanes);
                odd[at] += weights[row + 1] * x;
            }
        }
        for (int64_t at = 0; at < 4; ++at) {
            if (row < count) {
                load(&x, rows + row * stride + column + at * kLanes);
                even[at] += weights[row] * x;
            }
            load(&x, out + column + at * kLanes);
            x += even[at] + odd[at];
            std::memcpy(out + column + at * kLanes, &x, sizeof x);
        }
    }
    for (int64_t row = 0; column < width && row < count; ++row) {
        for (int64_t i = column; i < width; ++i) {
            out[i] += weights[row] * rows[row * stride + i];
        }
    }
}

// In place; the result does not sum to one yet: returns by what to multiply. Left to itself, the
// compiler takes the largest and the sum one number after the other.
NST_PART float softmax(float *scores, int64_t count) {
    const int64_t vectors = count / kLanes * kLanes;
    Lanes x;
    Lanes most = Lanes{} + scores[0];
    for (int64_t i = 0; i < vectors; i += kLanes) {
        load(&x, scores + i);
        most = x > most ? x : most;
    }
    float largest = most[0];
    for (int64_t lane = 1; lane < kLanes; ++lane) {
        largest = std::max(largest, most[lane]);
    }
    for (int64_t i = vectors; i < count; ++i) {
        largest = std::max(largest, scores[i]);
    }
    for (int64_t i = 0; i < count; ++i) {
        scores[i] = nst_exp(scores[i] - largest);
    }
    Lanes sums{};
    for (int64_t i = 0; i < vectors; i += kLanes) {
        load(&x, scores + i);
        sums += x;
    }
    float total = 0;
    for (int64_t lane = 0; lane < kLanes; ++lane) {
        total += sums[lane];
    }
    for (int64_t i = vectors; i < count; ++i) {
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
    const int64_t past = shape.position;
    for (int64_t token = 0; token < shape.tokens; ++token) {
        const int64_t length = past + token + 1;
        float *result = out + token * shape.heads * width;
        std::memset(result, 0, static_cast<size_t>(shape.heads * width) * sizeof(float));
        for (int64_t head = 0; head < shape.heads; ++head) {
            const float *query = queries + (token * shape.heads + head) * width;
            const int64_t group = (shape.first_group + head / shape.heads_per_group) * width;
            score_rows(query, keys + group, stride, past, width, scores);
            score_rows(query, new_keys + group, stride, token + 1, width, scores + past);
            const float scale = softmax(scores, length);
            float *sums = result + head * width;
            add_rows(scores, values + group, stride, past, width, sums);
            add_rows(scores + past, new_values + group, stride, token + 1, width, sums);
            for (int64_t i = 0; i < width; ++i) {
                sums[i] *= scale;
            }
        }
    }
}

}  // namespace nestling
