// SHA-256 of sections, without keeping the pages that it read.
#pragma once

#include "core/bundle.h"
#include "mapping.h"

namespace nestling {

// The platform's SHA-256: libsodium's.
const nst_hash_ops *platform_hash();

// As nst_bundle_check_section; pages of `mapping` are given back while they are read, unless
// `keep_pages`. NST_E_IO when the file was cut.
int check_section(const nst_bundle &bundle, uint32_t section, const Mapping &mapping,
                  bool keep_pages, nst_error *err);

}  // namespace nestling
