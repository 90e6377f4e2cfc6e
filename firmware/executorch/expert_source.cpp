#include "expert_source.h"

#include <zlib.h>

#include <algorithm>
#include <string>

#include "status.h"

namespace nestling {

void ExpertSource::open(const Mapping &mapping,
                        const uint64_t section_offsets[NST_MAX_EXPERT_SLICES]) {
    mapping_ = &mapping;
    std::copy_n(section_offsets, NST_MAX_EXPERT_SLICES, offsets_);
}

void ExpertSource::emulate(uint64_t bytes_per_s, uint64_t latency_us) {
    bytes_per_s_ = bytes_per_s;
    latency_us_ = latency_us;
    busy_until_ns_ = 0;
}

int ExpertSource::read(const nst_expert_slice &slice, uint32_t number, uint8_t *to,
                       nst_error *err) const {
    const std::string section = "experts." + std::to_string(number);
    if (int code = mapping_->read(offsets_[number] + slice.offset, to, slice.size, err);
        code != NST_OK) {
        return code;
    }
    const auto sum = static_cast<uint32_t>(crc32(0, to, slice.size));
    if (sum != slice.crc32) {
        return failf(err, NST_E_HASH, {.section = section, .stage = {}}, slice.crc32, sum,
                     "its bytes are not those that were written");
    }
    return NST_OK;
}

uint64_t ExpertSource::done_ns(uint64_t asked_ns, uint64_t bytes) {
    if (bytes_per_s_ == 0 && latency_us_ == 0) {
        return 0;
    }
    const double transfer_ns =
        bytes_per_s_ != 0 ? static_cast<double>(bytes) * 1e9 / static_cast<double>(bytes_per_s_)
                          : 0.0;
    busy_until_ns_ = std::max(asked_ns, busy_until_ns_) + latency_us_ * 1000 +
                     static_cast<uint64_t>(transfer_ns);
    return busy_until_ns_;
}

}  // namespace nestling
