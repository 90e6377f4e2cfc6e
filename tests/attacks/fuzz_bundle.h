#ifndef NESTLING_TESTS_ATTACKS_FUZZ_BUNDLE_H
#define NESTLING_TESTS_ATTACKS_FUZZ_BUNDLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Take a bundle as a seed; the first one also gives the sections. False when it is not one. */
bool fuzz_seed(const uint8_t *data, size_t size, const uint8_t **out_manifest, size_t *out_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
