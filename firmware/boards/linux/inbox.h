// Bytes on their way from a transport to the server, and the server waiting for them.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

namespace nestling::linux_board {

// Any thread may push; the server's thread takes a byte at a time.
class Inbox {
  public:
    // Bytes from one client. `client` counts connections, so that an answer is not sent to the next
    // one.
    void push(const uint8_t *data, size_t bytes, uint64_t client);

    // That were not taken yet.
    size_t bytes();

    // Forgets what was not taken.
    void clear();

    // Looks at all waiters' conditions again.
    void wake();

    // The next byte; false when there is none now.
    bool take(uint8_t *out_byte, uint64_t *out_client);

    // Blocks until there is a byte or `ready` says so.
    template <typename Ready>
    void wait(Ready ready) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return !pieces_.empty() || ready(); });
    }

  private:
    struct Piece {
        std::vector<uint8_t> bytes;
        size_t taken;
        uint64_t client;
    };

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<Piece> pieces_;  // none is empty
    size_t bytes_ = 0;          // in all of them, not taken
};

}  // namespace nestling::linux_board
