#include "inbox.h"

namespace nestling::linux_board {

void Inbox::push(const uint8_t *data, size_t bytes, uint64_t client) {
    if (bytes == 0) {
        return;
    }
    {
        const std::lock_guard lock(mutex_);
        pieces_.push_back({.bytes = {data, data + bytes}, .taken = 0, .client = client});
        bytes_ += bytes;
    }
    changed_.notify_all();
}

size_t Inbox::bytes() {
    const std::lock_guard lock(mutex_);
    return bytes_;
}

void Inbox::clear() {
    const std::lock_guard lock(mutex_);
    pieces_.clear();
    bytes_ = 0;
}

void Inbox::wake() {
    // Taking the lock once makes sure that no waiter is between its look and its sleep.
    {
        const std::lock_guard lock(mutex_);
    }
    changed_.notify_all();
}

bool Inbox::take(uint8_t *out_byte, uint64_t *out_client) {
    const std::lock_guard lock(mutex_);
    if (pieces_.empty()) {
        return false;
    }
    Piece &front = pieces_.front();
    *out_byte = front.bytes[front.taken++];
    *out_client = front.client;
    --bytes_;
    if (front.taken == front.bytes.size()) {
        pieces_.pop_front();
    }
    return true;
}

}  // namespace nestling::linux_board
