#include "inputs.h"

#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <stdexcept>

namespace nestling_bench {

namespace {

template <typename Number, typename Draw>
void fill(std::vector<uint8_t> &bytes, Draw &&draw) {
    for (size_t at = 0; at + sizeof(Number) <= bytes.size(); at += sizeof(Number)) {
        const Number number = draw();
        std::memcpy(bytes.data() + at, &number, sizeof number);
    }
}

}  // namespace

std::vector<uint8_t> input_bytes(const std::string &file, size_t index, Kind kind, size_t size) {
    if (!file.empty()) {
        std::ifstream stream(file, std::ios::binary);
        std::vector<uint8_t> bytes((std::istreambuf_iterator<char>(stream)),
                                   std::istreambuf_iterator<char>());
        if (bytes.size() != size) {
            throw std::runtime_error(file + " holds " + std::to_string(bytes.size()) +
                                     " bytes, the input takes " + std::to_string(size));
        }
        bytes.resize(size + kPaddingBytes);
        return bytes;
    }
    std::vector<uint8_t> bytes(size + kPaddingBytes);
    std::minstd_rand random(static_cast<unsigned>(index + 1));
    switch (kind) {
        case Kind::kFloat32:
            fill<float>(bytes,
                        [&] { return static_cast<float>(random() % 2048) / 1024.0F - 1.0F; });
            break;
        // Small enough to be a token, a position or a segment of any model.
        case Kind::kInt64:
            fill<int64_t>(bytes, [&] { return static_cast<int64_t>(random() % 2); });
            break;
        case Kind::kInt32:
            fill<int32_t>(bytes, [&] { return static_cast<int32_t>(random() % 2); });
            break;
        case Kind::kOther:
            break;
    }
    return bytes;
}

std::string file_of(const std::vector<std::string> &files, size_t index) {
    return index < files.size() ? files[index] : std::string();
}

}  // namespace nestling_bench
