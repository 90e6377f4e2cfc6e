// The smallest JSON writer that the raw samples need: objects, arrays, strings, integers, doubles.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nestling_bench {

// Appends values in document order; commas are its own business, matching brackets the caller's.
class JsonWriter {
  public:
    JsonWriter &open_object();
    JsonWriter &close_object();
    JsonWriter &open_array();
    JsonWriter &close_array();
    JsonWriter &key(std::string_view name);
    JsonWriter &value(std::string_view text);
    JsonWriter &value(int64_t number);
    JsonWriter &value(double number);
    JsonWriter &value(const std::vector<int64_t> &numbers);

    const std::string &text() const { return text_; }

  private:
    void separate();
    void quote(std::string_view text);

    std::string text_;
    bool first_ = true;
};

}  // namespace nestling_bench
