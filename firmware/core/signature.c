#include "signature.h"

#include <string.h>

#include "sentence.h"

/* COSE_Sign1 = 18([ << {1: -8} >>, {4: key id}, null, signature ]): everything but the id and the
 * signature is constant. */
static const uint8_t before_id[] = {0xD2, 0x84, 0x43, 0xA1, 0x01, 0x27, 0xA1, 0x04, 0x48};
static const uint8_t before_signature[] = {0xF6, 0x58, 0x40};
enum {
    ID_AT = sizeof before_id,
    SIGNATURE_AT = ID_AT + NST_KEY_ID_BYTES + sizeof before_signature
};
_Static_assert(SIGNATURE_AT + 64 == NST_SIGNATURE_BYTES, "size of the signature");

/* Sig_structure = ["Signature1", << {1: -8} >>, h'', manifest hash]. */
static const uint8_t before_hash[] = {0x84, 0x6A, 'S',  'i',  'g',  'n',  'a',  't',  'u', 'r',
                                      'e',  '1',  0x43, 0xA1, 0x01, 0x27, 0x40, 0x58, 0x20};
_Static_assert(sizeof before_hash + NST_HASH_BYTES == NST_SIGNED_BYTES, "size of Sig_structure");

bool nst_signature_is_well_formed(const uint8_t *data, size_t bytes) {
    return bytes == NST_SIGNATURE_BYTES && memcmp(data, before_id, sizeof before_id) == 0 &&
           memcmp(data + ID_AT + NST_KEY_ID_BYTES, before_signature, sizeof before_signature) == 0;
}

void nst_signature_message(const uint8_t manifest_sha256[NST_HASH_BYTES],
                           uint8_t out[NST_SIGNED_BYTES]) {
    memcpy(out, before_hash, sizeof before_hash);
    memcpy(out + sizeof before_hash, manifest_sha256, NST_HASH_BYTES);
}

int nst_bundle_verify(const nst_bundle *bundle, const uint8_t public_key[NST_PUBLIC_KEY_BYTES],
                      const nst_hash_ops *hash, nst_verify_fn verify, nst_error *err) {
    uint8_t message[NST_SIGNED_BYTES];
    uint8_t digest[NST_HASH_BYTES];
    nst_hash_state state;
    if (bundle == NULL || public_key == NULL || hash == NULL || verify == NULL) {
        return nst_fail_in(err, NST_E_ARGUMENT, NULL, NST_TEXT("an argument is null"));
    }
    const uint8_t *signature = bundle->info.signature;
    if (signature == NULL) {
        return nst_fail_in(err, NST_E_SIGNATURE, "signature", NST_TEXT("the bundle is not signed"));
    }
    if (!nst_signature_is_well_formed(signature, bundle->info.signature_bytes)) {
        return nst_fail_in(err, NST_E_SIGNATURE, "signature",
                           NST_TEXT("the signature is malformed"));
    }
    if (hash->init(&state) != 0 || hash->update(&state, public_key, NST_PUBLIC_KEY_BYTES) != 0 ||
        hash->final(&state, digest) != 0) {
        return nst_fail_in(err, NST_E_HASH, "signature",
                           NST_TEXT("the hash could not be computed"));
    }
    if (memcmp(digest, signature + ID_AT, NST_KEY_ID_BYTES) != 0) {
        return nst_fail_in(err, NST_E_SIGNATURE, "signature",
                           NST_TEXT("the bundle is signed by another key"));
    }
    nst_signature_message(bundle->info.manifest_sha256, message);
    if (verify(signature + SIGNATURE_AT, message, sizeof message, public_key) != 0) {
        return nst_fail_in(err, NST_E_SIGNATURE, "signature",
                           NST_TEXT("the signature does not belong to this manifest"));
    }
    return NST_OK;
}
