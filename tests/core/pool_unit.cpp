// The pool of caches under threads and sanitizers, without an engine: every row holds what follows
// from its conversation's tokens, so that a row that is lost, stale or another one's is found out.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "cache_pool.h"
#include "check.h"

namespace {

using nestling::CacheContent;
using nestling::CacheLayout;
using nestling::CachePager;
using nestling::CachePool;
using nestling::Growth;
using nestling::Slot;
using nestling::Stage;
using nestling::Tables;

constexpr uint32_t kRows = 100;
constexpr uint32_t kPaths = 2;

uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

Slot growing(const char *name, int32_t width) {
    Slot slot{name, NST_F32, NST_STATE, {static_cast<int32_t>(kRows), width}, 0, 1, NST_NONE};
    slot.bytes = uint64_t{kRows} * static_cast<uint64_t>(width) * sizeof(float);
    slot.grows = true;
    return slot;
}

// Rows of 256, 512 and 768 bytes; the chain reads the second cache first.
Tables make_tables() {
    Tables tables;
    tables.slots = {growing("a", 64), growing("b", 128), growing("c", 192)};
    tables.stages.resize(2);
    tables.stages[0].first = 3;
    tables.stages[0].inputs = {0, 2};
    tables.stages[1].first = 1;
    tables.stages[1].inputs = {1};
    return tables;
}

// A conversation whose rows are computed here.
class Talk {
  public:
    Talk(CachePool &pool, const Tables &tables)
        : pool_(pool), layout_(pool.layout()), bytes_(layout_.bytes) {
        memory_ = static_cast<uint8_t *>(
            mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        CHECK(growth_.open(tables, nullptr) == NST_OK);
        pager_ = pool.make_pager(memory_);
    }
    ~Talk() {
        pager_.reset();
        munmap(memory_, bytes_);
    }
    Talk(const Talk &) = delete;
    Talk &operator=(const Talk &) = delete;

    CachePager *pager() { return pager_.get(); }
    uint32_t size() const { return static_cast<uint32_t>(tokens_.size()); }

    // Reads everything, then computes `count` tokens more. False: not now, the budget is full.
    bool go_on(uint32_t count, uint32_t path, uint32_t *random) {
        nst_error error{};
        bool forgotten = false;
        int code = pool_.begin(pager_.get(), &forgotten, &error);
        CHECK(!forgotten && (code == NST_OK || code == NST_E_BUDGET));
        if (code != NST_OK) {
            return false;
        }
        for (const nestling::CachePart &part : layout_.parts) {
            CHECK(pager_->wait_for(part.slot, &error) == NST_OK);
            check(part);
        }
        const uint32_t from = size();
        for (uint32_t i = 0; i < count; ++i) {
            // Few choices: others say the same now and then.
            tokens_.push_back(next_random(random) % 97 == 0 ? 1 : 0);
        }
        uint32_t row = pool_.adopt(pager_.get(), path, tokens_, from, &growth_);
        makers_.resize(size(), static_cast<uint8_t>(path));
        if (row > from) {
            const uint32_t first = from - from % layout_.block_tokens;
            std::fill(makers_.begin() + first, makers_.end(), static_cast<uint8_t>(path));
        }
        code = row < size() ? pager_->make_room(row, size(), &error) : NST_OK;
        CHECK(code == NST_OK || code == NST_E_BUDGET);
        if (code == NST_OK) {
            for (; row < size(); ++row) {
                for (const nestling::CachePart &part : layout_.parts) {
                    std::vector<uint32_t> content = expected(part, row);
                    std::memcpy(at(part, row), content.data(), part.row_bytes);
                    growth_.extend(part.slot, row, row + 1);
                }
            }
        } else {
            tokens_.resize(row);
            makers_.resize(row);
        }
        const CacheContent content{tokens_, makers_, {0, 1}};
        CHECK(pool_.end(pager_.get(), content, growth_, &forgotten, &error) == NST_OK);
        return code == NST_OK;
    }

    void rewind(uint32_t count) {
        tokens_.resize(count);
        makers_.resize(count);
        growth_.rewind(count);
        pool_.truncate(pager_.get(), count);
    }

  private:
    uint8_t *at(const nestling::CachePart &part, uint32_t row) const {
        return memory_ + part.offset + row * part.row_bytes;
    }

    // All that a row follows from: the tokens up to it, the paths that computed them, the cache.
    std::vector<uint32_t> expected(const nestling::CachePart &part, uint32_t row) const {
        uint32_t hash = part.slot + 1;
        for (uint32_t i = 0; i <= row; ++i) {
            hash = hash * 31 + tokens_[i] * kPaths + makers_[i] + 7;
        }
        return std::vector<uint32_t>(part.row_bytes / sizeof(uint32_t), hash);
    }

    void check(const nestling::CachePart &part) const {
        for (uint32_t row = 0; row < size(); ++row) {
            const std::vector<uint32_t> content = expected(part, row);
            CHECK(std::memcmp(at(part, row), content.data(), part.row_bytes) == 0);
        }
    }

    CachePool &pool_;
    const CacheLayout &layout_;
    size_t bytes_;
    uint8_t *memory_;
    std::unique_ptr<CachePager> pager_;
    Growth growth_;
    std::vector<uint32_t> tokens_;
    std::vector<uint8_t> makers_;
};

void talk_at_random(CachePool &pool, const Tables &tables, uint32_t seed, uint32_t turns) {
    std::vector<std::unique_ptr<Talk>> talks(3);
    uint32_t random = seed;
    for (uint32_t turn = 0; turn < turns; ++turn) {
        std::unique_ptr<Talk> &talk = talks[next_random(&random) % talks.size()];
        const uint32_t what = next_random(&random) % 16;
        if (talk == nullptr || what == 0) {
            talk = nullptr;
            talk = std::make_unique<Talk>(pool, tables);
        } else if (what == 1) {
            talk->rewind(next_random(&random) % (talk->size() + 1));
        } else if (what == 2) {
            CHECK(pool.swap_out(talk->pager(), nullptr) == NST_OK);
        } else if (what == 3) {
            const int code = pool.swap_in(talk->pager(), nullptr);
            CHECK(code == NST_OK || code == NST_E_BUDGET);
        } else {
            const uint32_t left = kRows - talk->size();
            const uint32_t count = next_random(&random) % 40;
            talk->go_on(count < left ? count : left, what % kPaths, &random);
        }
        nst_pool_state state{};
        pool.state(&state);
        CHECK(state.used_bytes <= state.budget_bytes && state.peak_bytes <= state.budget_bytes);
    }
}

void rows_are_right_whoever_has_memory(bool share, uint32_t threads, uint32_t blocks) {
    const Tables tables = make_tables();
    CachePool pool(tables);
    nst_pool_options options{};
    options.budget_bytes = blocks * pool.layout().block_bytes;
    options.share = share ? 1 : 0;
    CHECK(pool.layout().parts.front().slot == 1);
    CHECK(pool.open(options, nullptr) == NST_OK);
    std::vector<std::thread> running;
    for (uint32_t i = 0; i < threads; ++i) {
        running.emplace_back([&, i] { talk_at_random(pool, tables, 77 * i + blocks, 300); });
    }
    for (std::thread &thread : running) {
        thread.join();
    }
    nst_pool_state state{};
    pool.state(&state);
    CHECK(pool.empty() && state.away_bytes == 0);
    CHECK(state.used_bytes == state.shared_bytes);  // what is kept for whoever comes next
    CHECK(state.swap_outs > 0 && state.swap_ins > 0 && state.swap_outs >= state.swap_ins);
    CHECK(share == (state.adopted_tokens > 0));
}

}  // namespace

int main() {
    rows_are_right_whoever_has_memory(true, 1, 8);
    rows_are_right_whoever_has_memory(false, 1, 8);
    rows_are_right_whoever_has_memory(true, 3, 16);
    rows_are_right_whoever_has_memory(true, 3, 24);
    return finish();
}
