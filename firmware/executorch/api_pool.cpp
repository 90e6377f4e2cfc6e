// The C functions of nestling_pool.h.
#include <cstring>
#include <memory>

#include "api_guard.h"
#include "decoder.h"
#include "nestling.h"

using nestling::failf;
using nestling::guarded;
using nestling::null_argument;

// The C API's opaque type: a pool keeps its model open.
struct nst_pool {
  public:
    explicit nst_pool(nst_model &model) : model_(model), caches_(model.tables()) {
        model_.users.fetch_add(1, std::memory_order_relaxed);
    }
    ~nst_pool() { model_.users.fetch_sub(1, std::memory_order_release); }
    nst_pool(const nst_pool &) = delete;
    nst_pool &operator=(const nst_pool &) = delete;

    nst_model &model() { return model_; }
    nestling::CachePool &caches() { return caches_; }

  private:
    nst_model &model_;
    nestling::CachePool caches_;
};

namespace {

int not_of_a_pool(nst_error *err) {
    return failf(err, NST_E_ARGUMENT, {}, 0, 0, "the decoder belongs to no pool");
}

}  // namespace

extern "C" {

void nst_pool_options_default(nst_pool_options *out) {
    if (out != nullptr) {
        *out = {};
        out->struct_bytes = sizeof *out;
        out->share = 1;
    }
}

int nst_pool_create(nst_model *model, const nst_pool_options *options, nst_pool **out,
                    nst_error *err) {
    if (model == nullptr || options == nullptr || out == nullptr) {
        return null_argument(err);
    }
    *out = nullptr;
    if (options->struct_bytes != sizeof *options) {
        return failf(err, NST_E_ARGUMENT, {}, sizeof *options, options->struct_bytes,
                     "the options are of another version of the library");
    }
    return guarded(err, [&]() -> int {
        auto pool = std::make_unique<nst_pool>(*model);
        if (int code = pool->caches().open(*options, err); code != NST_OK) {
            return code;
        }
        *out = pool.release();
        return NST_OK;
    });
}

int nst_pool_destroy(nst_pool *pool, nst_error *err) {
    if (pool != nullptr && !pool->caches().empty()) {
        return failf(err, NST_E_STATE, {}, 0, 0, "a decoder of the pool still exists");
    }
    delete pool;
    return NST_OK;
}

int nst_pool_decoder(nst_pool *pool, nst_decoder **out, nst_error *err) {
    if (pool == nullptr || out == nullptr) {
        return null_argument(err);
    }
    *out = nullptr;
    return guarded(err, [&]() -> int {
        auto decoder = std::make_unique<nst_decoder>(pool->model(), &pool->caches());
        if (int code = decoder->open(err); code != NST_OK) {
            return code;
        }
        *out = decoder.release();
        return NST_OK;
    });
}

int nst_decoder_swap_out(nst_decoder *decoder, nst_error *err) {
    if (decoder == nullptr) {
        return null_argument(err);
    }
    nestling::CachePager *pager = decoder->pager();
    if (pager == nullptr) {
        return not_of_a_pool(err);
    }
    return guarded(err, [&] { return pager->pool().swap_out(pager, err); });
}

int nst_decoder_swap_in(nst_decoder *decoder, nst_error *err) {
    if (decoder == nullptr) {
        return null_argument(err);
    }
    nestling::CachePager *pager = decoder->pager();
    if (pager == nullptr) {
        return not_of_a_pool(err);
    }
    return guarded(err, [&] { return pager->pool().swap_in(pager, err); });
}

int nst_pool_get_state(nst_pool *pool, nst_pool_state *out, nst_error *err) {
    if (pool == nullptr || out == nullptr) {
        return null_argument(err);
    }
    pool->caches().state(out);
    return NST_OK;
}

int nst_decoder_cache(nst_decoder *decoder, nst_pool_cache *out, nst_error *err) {
    if (decoder == nullptr || out == nullptr) {
        return null_argument(err);
    }
    nestling::CachePager *pager = decoder->pager();
    if (pager == nullptr) {
        return not_of_a_pool(err);
    }
    pager->pool().cache(pager, out);
    return NST_OK;
}

}  // extern "C"
