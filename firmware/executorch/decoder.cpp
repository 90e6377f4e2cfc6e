#include "decoder.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "api_guard.h"
#include "clock.h"
#include "status.h"

using nestling::DecoderFamily;
using nestling::DecoderPath;
using nestling::DecoderSlots;
using nestling::DecoderVariant;
using nestling::failf;
using nestling::Plan;

namespace {

constexpr uint32_t kMostPaths = 255;  // makers_ holds bytes

}  // namespace

nst_decoder::nst_decoder(nst_model &model, nestling::CachePool *pool)
    : model_(model), session_(model), pool_(pool), guide_(model, layers_, feeds_) {}

int nst_decoder::open(nst_error *err) {
    if (int code = session_.open(err); code != NST_OK) {
        return code;
    }
    if (!session_.growth().any()) {
        return failf(err, NST_E_PATH, {}, 0, 0, "the bundle holds no decoder");
    }
    if (int code = find_slots(err); code != NST_OK) {
        return code;
    }
    if (int code = find_paths(err); code != NST_OK) {
        return code;
    }
    const auto count = static_cast<uint32_t>(paths_.size());
    rules_.assign(size_t{count} * count, NST_RULE_RECOMPUTE);
    for (uint32_t from = 0; from < count; ++from) {
        for (uint32_t to = 0; to < count; ++to) {
            if (keeps(from, to)) {
                rules_[from * count + to] = NST_RULE_KEEP;
            }
        }
    }
    uint32_t verify = 0;
    for (const DecoderVariant &variant : paths_.back().families.front().variants) {
        verify = variant.all ? std::max(verify, variant.tokens) : verify;
    }
    if (int code = layers_.open(model_.bundle(), model_.tables(), err); code != NST_OK) {
        return code;
    }
    const nst_decode_engine engine = make_engine(verify);
    feeds_.open(engine.limit);
    tokens_.resize(engine.limit);
    makers_.resize(engine.limit);
    candidates_.resize(engine.vocabulary);
    nst_decode_init(&decode_, &engine, tokens_.data(), candidates_.data());
    if (pool_ != nullptr) {
        pager_ = pool_->make_pager(session_.caches());
        session_.set_pager(pager_.get());
    }
    return NST_OK;
}

nst_decode_engine nst_decoder::make_engine(uint32_t verify_tokens) {
    return {
        .context = this,
        .vocabulary = vocabulary_,
        .paths = static_cast<uint32_t>(paths_.size()),
        // A run that is not full writes behind its tokens.
        .limit = session_.growth().limit() - slots_.back().tokens,
        .verify_tokens = verify_tokens,
        .run =
            [](void *self, uint32_t path, const uint32_t *tokens, uint32_t position,
               uint32_t tokens_count, bool all, const float **out, nst_error *error) {
                return nestling::guarded(error, [&] {
                    return static_cast<nst_decoder *>(self)->run(path, tokens, position,
                                                                 tokens_count, all, out, error);
                });
            },
        .rewind =
            [](void *self, uint32_t tokens_left) {
                static_cast<nst_decoder *>(self)->rewind(tokens_left);
            },
        .now_ns = [](void *) { return nestling::now_ns(); },
        .feed =
            [](void *self, uint32_t position, const nst_token_feed *feed, nst_error *error) {
                return nestling::guarded(error, [&] {
                    return static_cast<nst_decoder *>(self)->feeds_.set(position, *feed, error);
                });
            },
    };
}

int nst_decoder::find_paths(nst_error *err) {
    if (int code = nestling::find_decoder_paths(model_.tables(), &paths_, err); code != NST_OK) {
        return code;
    }
    if (paths_.empty()) {
        return failf(err, NST_E_PATH, {}, 0, 0, "the bundle's decoder has no named path");
    }
    if (paths_.size() > kMostPaths) {
        return failf(err, NST_E_LIMIT, {}, kMostPaths, paths_.size(), "too many paths to decode");
    }
    for (const DecoderPath &path : paths_) {
        for (const DecoderFamily &family : path.families) {
            for (const DecoderVariant &variant : family.variants) {
                if (slots_of(variant) == nullptr) {
                    return failf(err, NST_E_PATH, {}, 0, variant.tokens,
                                 "the bundle lacks the slots of the path %.80s",
                                 model_.tables().paths[variant.path].name.c_str());
                }
            }
        }
    }
    return NST_OK;
}

int nst_decoder::find_slots(nst_error *err) {
    const nestling::Tables &tables = model_.tables();
    if (const uint32_t slot = nst_model_find_slot(&model_, "logits");
        slot != NST_NONE && !tables.slots[slot].shape.empty()) {
        vocabulary_ = static_cast<uint32_t>(tables.slots[slot].shape.back());
    }
    // Null where it is not there, or not of that many bytes.
    const auto find = [&](std::string_view kind, uint32_t tokens, nst_role role, nst_dtype dtype,
                          uint64_t bytes) {
        const std::string name =
            std::string(kind) + (tokens == 1 ? "" : ".t" + std::to_string(tokens));
        nst_tensor tensor{};
        const uint32_t slot = nst_model_find_slot(&model_, name.c_str());
        if (slot == NST_NONE || tables.slots[slot].role != role ||
            tables.slots[slot].dtype != dtype ||
            session_.tensor(slot, &tensor, nullptr) != NST_OK || tensor.bytes != bytes) {
            return static_cast<void *>(nullptr);
        }
        return tensor.data;
    };
    for (const nestling::Slot &slot : tables.slots) {
        if (slot.name != "tokens" && !slot.name.starts_with("tokens.t")) {
            continue;
        }
        DecoderSlots found;
        found.tokens = static_cast<uint32_t>(slot.shape.empty() ? 0 : slot.shape.back());
        found.token_ids = static_cast<int64_t *>(
            find("tokens", found.tokens, NST_INPUT, NST_I64, sizeof(int64_t) * found.tokens));
        found.row =
            static_cast<int64_t *>(find("row", found.tokens, NST_INPUT, NST_I64, sizeof(int64_t)));
        found.logits = static_cast<const float *>(find("logits", found.tokens, NST_OUTPUT, NST_F32,
                                                       sizeof(float) * found.tokens * vocabulary_));
        if (found.token_ids == nullptr || (found.tokens > 1 && found.row == nullptr)) {
            return failf(err, NST_E_PATH, {}, 0, found.tokens,
                         "the bundle's decoder lacks a slot for runs of this many tokens");
        }
        slots_.push_back(found);
    }
    std::sort(slots_.begin(), slots_.end(),
              [](const DecoderSlots &a, const DecoderSlots &b) { return a.tokens < b.tokens; });
    if (slots_.empty() || slots_.front().tokens != 1 || slots_.front().logits == nullptr) {
        return failf(err, NST_E_PATH, {}, 1, 0, "the bundle holds no decoder");
    }
    if (slots_.back().tokens >= session_.growth().limit()) {
        return failf(err, NST_E_PATH, {}, session_.growth().limit(), slots_.back().tokens,
                     "a run takes as many tokens as the caches hold");
    }
    return NST_OK;
}

// The slots of a variant; null where they are not there.
const DecoderSlots *nst_decoder::slots_of(const DecoderVariant &variant) const {
    const auto found = std::find_if(slots_.begin(), slots_.end(), [&](const DecoderSlots &slots) {
        return slots.tokens == variant.tokens;
    });
    return found == slots_.end() || (variant.all && found->logits == nullptr) ? nullptr : &*found;
}

int nst_decoder::plan_of(const DecoderFamily &family, const Plan **out, nst_error *err) const {
    return model_.find_plan(family.variants.front().path, NST_MODE_CHAIN, out, nullptr, err);
}

// Whether all caches that `to` reads are filled by `from`.
bool nst_decoder::keeps(uint32_t from, uint32_t to) const {
    const Plan *source = nullptr;
    const Plan *target = nullptr;
    if (plan_of(paths_[from].families.front(), &source, nullptr) != NST_OK ||
        plan_of(paths_[to].families.front(), &target, nullptr) != NST_OK) {
        return false;
    }
    const auto appended = source->appended();
    return std::all_of(
        target->states().begin(), target->states().end(), [&](const nestling::StateUse &use) {
            return use.by_row ||
                   std::find(appended.begin(), appended.end(), use.slot) != appended.end();
        });
}

bool nst_decoder::fills(uint32_t path) const {
    const size_t count = paths_.size();
    const auto row = rules_.begin() + static_cast<ptrdiff_t>(path * count);
    return std::find(row, row + static_cast<ptrdiff_t>(count), NST_RULE_PROPAGATE) !=
           row + static_cast<ptrdiff_t>(count);
}

// The first token before `position` that `path` must compute anew, by the rules.
uint32_t nst_decoder::first_to_redo(uint32_t path, uint32_t position) const {
    const size_t count = paths_.size();
    for (uint32_t token = 0; token < position; ++token) {
        if (rules_[makers_[token] * count + path] == NST_RULE_RECOMPUTE) {
            return token;
        }
    }
    return position;
}

// The stages for tokens up to `end`, and the first token that they compute. `whole`: from the first layer, whatever an exit has kept.
int nst_decoder::choose_family(uint32_t path, uint32_t position, uint32_t end, bool whole,
                               const DecoderFamily **out, uint32_t *start, nst_error *err) const {
    const uint32_t redo = first_to_redo(path, position);
    const nestling::Growth &growth = session_.growth();
    const Plan *plan = nullptr;
    for (const DecoderFamily &family : paths_[path].families) {
        if (family.from == 0 || whole) {
            continue;
        }
        if (int code = plan_of(family, &plan, err); code != NST_OK) {
            return code;
        }
        *start = std::min(redo, growth.ready(*plan));
        if (growth.covers(*plan, *start, end)) {
            *out = &family;
            return NST_OK;
        }
    }
    *out = paths_[path].whole(fills(path));
    if (int code = plan_of(**out, &plan, err); code != NST_OK) {
        return code;
    }
    *start = std::min(redo, growth.ready(*plan));
    return NST_OK;
}

int nst_decoder::run(uint32_t path, const uint32_t *tokens, uint32_t position, uint32_t count,
                     bool all, const float **logits, nst_error *err) {
    const DecoderFamily *family = nullptr;
    uint32_t next = 0;
    const uint32_t end = position + count;
    const bool routed = router_ != nullptr && count == 1 && !all && feeds_.routed(position);
    if (int code = choose_family(path, position, end, routed, &family, &next, err);
        code != NST_OK) {
        return code;
    }
    // The last token's logits are wanted, so that one is always computed.
    const uint32_t there = all ? next : adopt_rows(path, tokens, next, end - 1);
    if (there > next) {
        if (int code =
                choose_family(path, std::max(there, position), end, routed, &family, &next, err);
            code != NST_OK) {
            return code;
        }
    }
    recomputed_ += position - std::min(next, position);
    while (next < end) {
        const bool last = all && next == position;
        const bool apart = (all || routed) && next < position;
        const uint32_t left = (apart ? position : end) - next;
        const DecoderVariant *variant = last ? family->pick_all(left) : family->pick(left);
        if (variant == nullptr) {
            return failf(err, NST_E_PATH, {}, 0, left,
                         "the path %.80s gives no logits of so many tokens",
                         paths_[path].name.c_str());
        }
        const uint32_t taken = std::min(left, variant->tokens);
        if (int code = run_variant(*variant, tokens, next, taken, family->from == 0,
                                   routed && next == position, logits, err);
            code != NST_OK) {
            return code;
        }
        std::fill_n(makers_.begin() + next, taken, static_cast<uint8_t>(path));
        next += taken;
        computed_ += taken;
        resumed_ += family->from != 0 ? taken : 0;
    }
    return NST_OK;
}

int nst_decoder::run_variant(const DecoderVariant &variant, const uint32_t *tokens,
                             uint32_t position, uint32_t count, bool whole, bool routed,
                             const float **logits, nst_error *err) {
    if (selected_ != variant.path) {
        selected_ = NST_NONE;
        if (int code = session_.select(variant.path, NST_MODE_CHAIN, err); code != NST_OK) {
            return code;
        }
        selected_ = variant.path;
    }
    const DecoderSlots *slots = slots_of(variant);  // there is one: find_paths
    for (uint32_t i = 0; i < variant.tokens; ++i) {
        slots->token_ids[i] = i < count ? tokens[position + i] : 0;
    }
    if (slots->row != nullptr) {
        *slots->row = count - 1;
    }
    if (int code = session_.growth().seek(position, err); code != NST_OK) {
        return code;
    }
    *logits = variant.all ? slots->logits : slots_.front().logits;
    if (!routed && !feeds_.any(position, count)) {
        return session_.run_rows(count, err);
    }
    const nestling::GuidedRun guided = {session_.plan(), position, count,
                                        whole ? slots->token_ids : nullptr,
                                        routed ? router_ : nullptr};
    if (int code = guide_.begin(guided, err); code != NST_OK) {
        return code;
    }
    return session_.run_rows(count, err, &guide_);
}

void nst_decoder::rewind(uint32_t count) {
    session_.growth().rewind(count);
    feeds_.forget_from(count);
}

const char *nst_decoder::path_name(uint32_t path) const {
    return path < paths_.size() ? paths_[path].name.c_str() : nullptr;
}

int nst_decoder::rule(uint32_t from, uint32_t to, uint32_t *out, nst_error *err) const {
    if (from >= paths_.size() || to >= paths_.size()) {
        return failf(err, NST_E_NOT_FOUND, {}, paths_.size(), std::max(from, to), "no such path");
    }
    *out = rules_[from * paths_.size() + to];
    return NST_OK;
}

int nst_decoder::set_rule(uint32_t from, uint32_t to, uint32_t rule, nst_error *err) {
    uint32_t present = 0;
    if (int code = this->rule(from, to, &present, err); code != NST_OK) {
        return code;
    }
    const bool fills = paths_[from].whole(true)->fills;
    if (rule > NST_RULE_PROPAGATE || (rule == NST_RULE_KEEP && !keeps(from, to)) ||
        (rule == NST_RULE_PROPAGATE && !fills)) {
        return failf(err, NST_E_PATH, {}, 0, rule,
                     "this rule is not possible from the path %.60s to %.60s",
                     paths_[from].name.c_str(), paths_[to].name.c_str());
    }
    rules_[from * paths_.size() + to] = static_cast<uint8_t>(rule);
    return NST_OK;
}

// Takes over from other conversations what they have computed of tokens from..end-1; returns the
// token up to which it is there.
uint32_t nst_decoder::adopt_rows(uint32_t path, const uint32_t *tokens, uint32_t from,
                                 uint32_t end) {
    if (pager_ == nullptr || from >= end) {
        return from;
    }
    const uint32_t there = pool_->adopt(pager_.get(), content_key(path),
                                        feeds_.identities({tokens, end}), from, &session_.growth());
    if (there > from) {
        // Whole blocks: also the tokens of the first one that were there already.
        const uint32_t first = from - from % pool_->layout().block_tokens;
        std::fill(makers_.begin() + first, makers_.begin() + there, static_cast<uint8_t>(path));
    }
    return there;
}

int nst_decoder::begin_use(nst_error *err) {
    bool forgotten = false;
    const int code = pager_ != nullptr ? pool_->begin(pager_.get(), &forgotten, err) : NST_OK;
    if (forgotten) {
        forget_rows();
    }
    return code;
}

int nst_decoder::end_use(nst_error *err) {
    if (pager_ == nullptr) {
        return NST_OK;
    }
    nestling::CacheContent content{
        feeds_.identities({tokens_.data(), decode_.done}), {makers_.data(), decode_.done}, {}};
    for (uint32_t path = 0; path < paths_.size(); ++path) {
        content.keys.push_back(content_key(path));
    }
    bool forgotten = false;
    const int code = pool_->end(pager_.get(), content, session_.growth(), &forgotten, err);
    if (forgotten) {
        forget_rows();
    }
    return code;
}

// The tokens stay; what is computed of them is lost.
void nst_decoder::forget_rows() {
    session_.growth().rewind(0);
    decode_.done = 0;
}

int nst_decoder::generate(const nst_generate_options &options, const nst_token_policy &policy,
                          nst_on_token on_token, void *user, nst_generate_stats *stats,
                          nst_error *err) {
    if (int code = begin_use(err); code != NST_OK) {
        if (stats != nullptr) {
            *stats = {};
            stats->reason = NST_STOP_ERROR;
        }
        return code;
    }
    router_ = policy.route != nullptr ? &policy : nullptr;
    generating_ = true;
    const int code = nst_decode_generate(&decode_, &options, &policy, on_token, user, stats, err);
    generating_ = false;
    router_ = nullptr;
    guide_.release();
    const int ended = end_use(code == NST_OK ? err : nullptr);
    return code == NST_OK ? ended : code;
}

int nst_decoder::idle(nst_error *err) const {
    return generating_ ? failf(err, NST_E_STATE, {}, 0, 0,
                               "the decoder is generating: its callbacks cannot change it")
                       : NST_OK;
}

int nst_decoder::set_steering(uint32_t index, uint32_t layer, const float *vector, uint32_t dim,
                              nst_error *err) {
    if (index >= 32) {
        return failf(err, NST_E_LIMIT, {}, 32, index, "there are 32 steering vectors at most");
    }
    if (vector == nullptr) {
        feeds_.set_vector(index, 0, {});
        return NST_OK;
    }
    if (layer >= layers_.count()) {
        return failf(err, NST_E_NOT_FOUND, {}, layers_.count(), layer, "there is no layer %u",
                     layer);
    }
    if (dim != layers_.dim() || dim == 0) {
        return failf(err, NST_E_ARGUMENT, {}, layers_.dim(), dim,
                     "a steering vector has as many numbers as the residual stream");
    }
    if (!std::all_of(vector, vector + dim, [](float value) { return std::isfinite(value); })) {
        return failf(err, NST_E_ARGUMENT, {}, 0, index, "a steering vector is not finite");
    }
    feeds_.set_vector(index, layer, {vector, dim});
    return NST_OK;
}

int nst_decoder::forget_from(uint32_t count, nst_error *err) {
    const int code = nst_decode_rewind(&decode_, count, err);
    if (code == NST_OK && pager_ != nullptr) {
        pool_->truncate(pager_.get(), decode_.done);
    }
    return code;
}

int nst_decoder::logits(uint32_t path, const float **out, nst_error *err) {
    if (int code = begin_use(err); code != NST_OK) {
        return code;
    }
    const int code = compute_logits(path, out, err);
    const int ended = end_use(code == NST_OK ? err : nullptr);
    return code == NST_OK ? ended : code;
}

int nst_decoder::compute_logits(uint32_t path, const float **out, nst_error *err) {
    if (path >= paths_.size()) {
        return failf(err, NST_E_NOT_FOUND, {}, paths_.size(), path, "no such path");
    }
    if (decode_.count == 0) {
        return failf(err, NST_E_STATE, {}, 1, 0, "there are no tokens");
    }
    const uint32_t start = std::min(decode_.done, decode_.count - 1);
    const int code = run(path, decode_.tokens, start, decode_.count - start, false, out, err);
    decode_.done = code == NST_OK ? decode_.count : start;
    rewind(decode_.done);
    return code;
}

int nst_decoder::load(uint32_t path, nst_error *err) {
    if (path >= paths_.size()) {
        return failf(err, NST_E_NOT_FOUND, {}, paths_.size(), path, "no such path");
    }
    for (const DecoderFamily &family : paths_[path].families) {
        for (const DecoderVariant &variant : family.variants) {
            if (int code = nst_model_load(&model_, variant.path, NST_MODE_CHAIN, err);
                code != NST_OK) {
                return code;
            }
        }
    }
    return NST_OK;
}

void nst_decoder::state(nst_decoder_state *out) const {
    *out = {};
    out->tokens = decode_.count;
    out->computed_tokens = decode_.done;
    for (const nestling::Slot &slot : model_.tables().slots) {
        if (slot.grows) {
            out->cache_bytes += slot.bytes;
            out->token_bytes += slot.bytes / static_cast<uint64_t>(slot.shape[0]);
        }
    }
    out->computed = computed_;
    out->recomputed = recomputed_;
    out->resumed = resumed_;
    out->macs = session_.macs();
}
