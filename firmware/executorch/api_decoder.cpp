// The C functions of nestling_decoder.h.
#include <algorithm>
#include <memory>

#include "api_guard.h"
#include "decoder.h"
#include "nestling.h"

using nestling::guarded;
using nestling::null_argument;

extern "C" {

int nst_decoder_create(nst_model *model, nst_decoder **out, nst_error *err) {
    if (model == nullptr || out == nullptr) {
        return null_argument(err);
    }
    *out = nullptr;
    return guarded(err, [&]() -> int {
        auto decoder = std::make_unique<nst_decoder>(*model, nullptr);
        if (int code = decoder->open(err); code != NST_OK) {
            return code;
        }
        *out = decoder.release();
        return NST_OK;
    });
}

void nst_decoder_destroy(nst_decoder *decoder) {
    delete decoder;
}

int nst_decoder_describe(const nst_decoder *decoder, nst_decoder_info *out, nst_error *err) {
    if (decoder == nullptr || out == nullptr) {
        return null_argument(err);
    }
    const nst_decode_engine &engine = decoder->decode().engine;
    *out = {engine.paths,         engine.vocabulary,         engine.limit,
            engine.verify_tokens, decoder->layers().count(), decoder->layers().dim()};
    return NST_OK;
}

const char *nst_decoder_path_name(const nst_decoder *decoder, uint32_t path) {
    return decoder != nullptr ? decoder->path_name(path) : nullptr;
}

int nst_decoder_set_rule(nst_decoder *decoder, uint32_t from, uint32_t to, uint32_t rule,
                         nst_error *err) {
    return decoder == nullptr ? null_argument(err) : decoder->set_rule(from, to, rule, err);
}

int nst_decoder_rule(const nst_decoder *decoder, uint32_t from, uint32_t to, uint32_t *out_rule,
                     nst_error *err) {
    if (decoder == nullptr || out_rule == nullptr) {
        return null_argument(err);
    }
    return decoder->rule(from, to, out_rule, err);
}

int nst_decoder_load(nst_decoder *decoder, uint32_t path, nst_error *err) {
    if (decoder == nullptr) {
        return null_argument(err);
    }
    return guarded(err, [&] { return decoder->load(path, err); });
}

int nst_decoder_set_steering(nst_decoder *decoder, uint32_t index, uint32_t layer,
                             const float *vector, uint32_t dim, nst_error *err) {
    if (decoder == nullptr) {
        return null_argument(err);
    }
    return guarded(err, [&] { return decoder->set_steering(index, layer, vector, dim, err); });
}

int nst_decoder_append(nst_decoder *decoder, const uint32_t *tokens, uint32_t count,
                       nst_error *err) {
    if (decoder == nullptr || (tokens == nullptr && count != 0)) {
        return null_argument(err);
    }
    const int code = decoder->idle(err);
    return code != NST_OK ? code : nst_decode_append(&decoder->decode(), tokens, count, err);
}

int nst_decoder_rewind(nst_decoder *decoder, uint32_t count, nst_error *err) {
    if (decoder == nullptr) {
        return null_argument(err);
    }
    const int code = decoder->idle(err);
    return code != NST_OK ? code : decoder->forget_from(count, err);
}

int nst_decoder_tokens(const nst_decoder *decoder, uint32_t *out_tokens, uint32_t capacity,
                       uint32_t *out_count, nst_error *err) {
    if (decoder == nullptr || out_count == nullptr || (out_tokens == nullptr && capacity != 0)) {
        return null_argument(err);
    }
    const nst_decode &decode = decoder->decode();
    *out_count = decode.count;
    std::copy_n(decode.tokens, std::min(capacity, decode.count), out_tokens);
    return NST_OK;
}

int nst_decoder_logits(nst_decoder *decoder, uint32_t path, const float **out, nst_error *err) {
    if (decoder == nullptr || out == nullptr) {
        return null_argument(err);
    }
    if (const int code = decoder->idle(err); code != NST_OK) {
        return code;
    }
    return guarded(err, [&] { return decoder->logits(path, out, err); });
}

int nst_decoder_generate(nst_decoder *decoder, const nst_generate_options *options,
                         const nst_token_policy *policy, nst_on_token on_token, void *user,
                         nst_generate_stats *stats, nst_error *err) {
    if (decoder == nullptr || options == nullptr || policy == nullptr) {
        return null_argument(err);
    }
    if (const int code = decoder->idle(err); code != NST_OK) {
        return code;
    }
    return guarded(
        err, [&] { return decoder->generate(*options, *policy, on_token, user, stats, err); });
}

void nst_decoder_cancel(nst_decoder *decoder) {
    if (decoder != nullptr) {
        decoder->cancel();
    }
}

int nst_decoder_get_state(const nst_decoder *decoder, nst_decoder_state *out, nst_error *err) {
    if (decoder == nullptr || out == nullptr) {
        return null_argument(err);
    }
    decoder->state(out);
    return NST_OK;
}

}  // extern "C"
