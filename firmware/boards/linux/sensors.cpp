#include "sensors.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <system_error>

namespace nestling::linux_board {
namespace {

namespace fs = std::filesystem;

std::optional<float> read_number(const fs::path &path) {
    std::ifstream file(path);
    float value = 0;
    return file >> value ? std::optional(value) : std::nullopt;
}

std::string read_word(const fs::path &path) {
    std::ifstream file(path);
    std::string word;
    file >> word;
    return word;
}

// Calls `visit` with each entry of a folder, in no order; a folder that is not there has none.
template <typename Visit>
void for_each_entry(const fs::path &folder, Visit visit) {
    std::error_code failed;
    for (fs::directory_iterator at(folder, failed), end; !failed && at != end;
         at.increment(failed)) {
        visit(at->path());
    }
}

}  // namespace

void read_sensors(const std::string &root, nst_smp_sensors *out) {
    for_each_entry(fs::path(root) / "class" / "thermal", [out](const fs::path &zone) {
        if (const auto millidegrees = read_number(zone / "temp")) {
            const float celsius = *millidegrees / 1000;
            out->temperature_c =
                out->has_temperature ? std::max(out->temperature_c, celsius) : celsius;
            out->has_temperature = true;
        }
    });
    for_each_entry(fs::path(root) / "class" / "power_supply", [out](const fs::path &supply) {
        if (out->has_battery || read_word(supply / "type") != "Battery") {
            return;
        }
        if (const auto percent = read_number(supply / "capacity")) {
            out->battery = std::clamp(*percent / 100, 0.0f, 1.0f);
            out->has_battery = true;
        }
    });
}

}  // namespace nestling::linux_board
