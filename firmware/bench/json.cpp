#include "json.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace nestling_bench {

void JsonWriter::separate() {
    if (!first_) {
        text_ += ',';
    }
    first_ = false;
}

void JsonWriter::quote(std::string_view text) {
    text_ += '"';
    for (const char letter : text) {
        const auto code = static_cast<unsigned char>(letter);
        if (letter == '"' || letter == '\\') {
            text_ += '\\';
            text_ += letter;
        } else if (code < 0x20) {
            std::array<char, 8> escaped{};
            std::snprintf(escaped.data(), escaped.size(), "\\u%04x", static_cast<unsigned>(code));
            text_ += escaped.data();
        } else {
            text_ += letter;
        }
    }
    text_ += '"';
}

JsonWriter &JsonWriter::open_object() {
    separate();
    text_ += '{';
    first_ = true;
    return *this;
}

JsonWriter &JsonWriter::close_object() {
    text_ += '}';
    first_ = false;
    return *this;
}

JsonWriter &JsonWriter::open_array() {
    separate();
    text_ += '[';
    first_ = true;
    return *this;
}

JsonWriter &JsonWriter::close_array() {
    text_ += ']';
    first_ = false;
    return *this;
}

JsonWriter &JsonWriter::key(std::string_view name) {
    separate();
    quote(name);
    text_ += ':';
    first_ = true;
    return *this;
}

JsonWriter &JsonWriter::value(std::string_view text) {
    separate();
    quote(text);
    return *this;
}

JsonWriter &JsonWriter::value(int64_t number) {
    separate();
    text_ += std::to_string(number);
    return *this;
}

JsonWriter &JsonWriter::value(double number) {
    separate();
    if (!std::isfinite(number)) {
        text_ += "null";  // JSON has no infinities
        return *this;
    }
    std::array<char, 32> digits{};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number);
    text_.append(digits.data(), end.ptr);
    return *this;
}

JsonWriter &JsonWriter::value(const std::vector<int64_t> &numbers) {
    open_array();
    for (const int64_t number : numbers) {
        value(number);
    }
    return close_array();
}

}  // namespace nestling_bench
