// The C functions of nestling.h that are about the library itself.
#include <sodium/crypto_sign_ed25519.h>

#include <string_view>

#include "api_guard.h"
#include "core/expert_kernel.h"
#include "hash.h"
#include "model.h"
#include "nestling.h"

namespace {

struct NamedSize {
    std::string_view name;
    size_t bytes;
};

constexpr NamedSize kSizes[] = {
    {"nst_bundle", sizeof(nst_bundle)},
    {"nst_bundle_info", sizeof(nst_bundle_info)},
    {"nst_constant_info", sizeof(nst_constant_info)},
    {"nst_decoder_info", sizeof(nst_decoder_info)},
    {"nst_decoder_state", sizeof(nst_decoder_state)},
    {"nst_entropy_policy", sizeof(nst_entropy_policy)},
    {"nst_error", sizeof(nst_error)},
    {"nst_exit_policy", sizeof(nst_exit_policy)},
    {"nst_expert_call", sizeof(nst_expert_call)},
    {"nst_expert_input", sizeof(nst_expert_input)},
    {"nst_expert_layer", sizeof(nst_expert_layer)},
    {"nst_expert_layer_view", sizeof(nst_expert_layer_view)},
    {"nst_expert_index", sizeof(nst_expert_index)},
    {"nst_expert_options", sizeof(nst_expert_options)},
    {"nst_expert_stats", sizeof(nst_expert_stats)},
    {"nst_expert_view", sizeof(nst_expert_view)},
    {"nst_fallback", sizeof(nst_fallback)},
    {"nst_generate_options", sizeof(nst_generate_options)},
    {"nst_generate_stats", sizeof(nst_generate_stats)},
    {"nst_growth", sizeof(nst_growth)},
    {"nst_hash_ops", sizeof(nst_hash_ops)},
    {"nst_layer_input", sizeof(nst_layer_input)},
    {"nst_layer_route_policy", sizeof(nst_layer_route_policy)},
    {"nst_layer_router", sizeof(nst_layer_router)},
    {"nst_list", sizeof(nst_list)},
    {"nst_logit_signals", sizeof(nst_logit_signals)},
    {"nst_memory", sizeof(nst_memory)},
    {"nst_mode_policy", sizeof(nst_mode_policy)},
    {"nst_model_options", sizeof(nst_model_options)},
    {"nst_note", sizeof(nst_note)},
    {"nst_path_info", sizeof(nst_path_info)},
    {"nst_path_report", sizeof(nst_path_report)},
    {"nst_path_view", sizeof(nst_path_view)},
    {"nst_placement", sizeof(nst_placement)},
    {"nst_policy", sizeof(nst_policy)},
    {"nst_policy_cost", sizeof(nst_policy_cost)},
    {"nst_policy_params", sizeof(nst_policy_params)},
    {"nst_pool_cache", sizeof(nst_pool_cache)},
    {"nst_pool_options", sizeof(nst_pool_options)},
    {"nst_pool_state", sizeof(nst_pool_state)},
    {"nst_position_info", sizeof(nst_position_info)},
    {"nst_prefix", sizeof(nst_prefix)},
    {"nst_program_info", sizeof(nst_program_info)},
    {"nst_ration", sizeof(nst_ration)},
    {"nst_rate_policy", sizeof(nst_rate_policy)},
    {"nst_route_policy", sizeof(nst_route_policy)},
    {"nst_sampling", sizeof(nst_sampling)},
    {"nst_section_info", sizeof(nst_section_info)},
    {"nst_selection", sizeof(nst_selection)},
    {"nst_slot_info", sizeof(nst_slot_info)},
    {"nst_soft_policy", sizeof(nst_soft_policy)},
    {"nst_speculative_policy", sizeof(nst_speculative_policy)},
    {"nst_stage_info", sizeof(nst_stage_info)},
    {"nst_stage_stats", sizeof(nst_stage_stats)},
    {"nst_stage_view", sizeof(nst_stage_view)},
    {"nst_target_view", sizeof(nst_target_view)},
    {"nst_tensor", sizeof(nst_tensor)},
    {"nst_steering_policy", sizeof(nst_steering_policy)},
    {"nst_stop_text", sizeof(nst_stop_text)},
    {"nst_text", sizeof(nst_text)},
    {"nst_token", sizeof(nst_token)},
    {"nst_token_choice", sizeof(nst_token_choice)},
    {"nst_token_policy", sizeof(nst_token_policy)},
    {"nst_token_signals", sizeof(nst_token_signals)},
    {"nst_transfer", sizeof(nst_transfer)},
};

int verify_ed25519(const uint8_t signature[64], const uint8_t *message, size_t bytes,
                   const uint8_t public_key[NST_PUBLIC_KEY_BYTES]) {
    return crypto_sign_ed25519_verify_detached(signature, message, bytes, public_key);
}

}  // namespace

extern "C" {

uint32_t nst_abi_version(void) {
    return NST_ABI_VERSION;
}

const char *nst_version(void) {
    return NST_VERSION_TEXT;
}

size_t nst_struct_bytes(const char *name) {
    if (name != nullptr) {
        for (const NamedSize &entry : kSizes) {
            if (entry.name == name) {
                return entry.bytes;
            }
        }
    }
    return 0;
}

const nst_hash_ops *nst_platform_hash(void) {
    return nestling::platform_hash();
}

int nst_bundle_check_signature(const nst_bundle *bundle, const uint8_t *public_key,
                               nst_error *err) {
    if (bundle == nullptr || public_key == nullptr) {
        return nestling::null_argument(err);
    }
    return nst_bundle_verify(bundle, public_key, nestling::platform_hash(), verify_ed25519, err);
}

int nst_model_check_signature(const nst_model *model, const uint8_t *public_key, nst_error *err) {
    if (model == nullptr) {
        return nestling::null_argument(err);
    }
    return nst_bundle_check_signature(&model->bundle(), public_key, err);
}

}  // extern "C"
