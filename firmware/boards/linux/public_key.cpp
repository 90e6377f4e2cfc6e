#include "public_key.h"

#include <sodium/utils.h>

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace nestling::linux_board {
namespace {

// What DER puts before the 32 bytes of an Ed25519 key (RFC 8410).
constexpr std::array<uint8_t, 12> kDerHead = {0x30, 0x2a, 0x30, 0x05, 0x06, 0x03,
                                              0x2b, 0x65, 0x70, 0x03, 0x21, 0x00};
constexpr char kBegin[] = "-----BEGIN PUBLIC KEY-----";
constexpr char kEnd[] = "-----END PUBLIC KEY-----";

}  // namespace

std::array<uint8_t, NST_PUBLIC_KEY_BYTES> read_public_key(const std::string &path) {
    std::ifstream file(path);
    if (!file) {
        throw std::runtime_error("cannot read the key " + path);
    }
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    std::array<uint8_t, NST_PUBLIC_KEY_BYTES> key{};
    if (text.size() == key.size()) {
        std::copy(text.begin(), text.end(), key.begin());
        return key;
    }
    const size_t begin = text.find(kBegin);
    const size_t end = text.find(kEnd);
    std::array<uint8_t, kDerHead.size() + NST_PUBLIC_KEY_BYTES> der{};
    size_t bytes = 0;
    if (begin == std::string::npos || end == std::string::npos || end < begin ||
        sodium_base642bin(der.data(), der.size(), text.data() + begin + sizeof kBegin - 1,
                          end - begin - (sizeof kBegin - 1), "\r\n", &bytes, nullptr,
                          sodium_base64_VARIANT_ORIGINAL) != 0 ||
        bytes != der.size() || !std::equal(kDerHead.begin(), kDerHead.end(), der.begin())) {
        throw std::runtime_error(path + " is not a public key that nestling keygen wrote");
    }
    std::copy(der.begin() + kDerHead.size(), der.end(), key.begin());
    return key;
}

}  // namespace nestling::linux_board
