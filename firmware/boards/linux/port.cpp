#include "port.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <system_error>

namespace nestling::linux_board {
namespace {

constexpr int kPatienceMs = 1000;

}  // namespace

void Port::connect(FileDescriptor line) {
    const std::lock_guard lock(mutex_);
    line_ = std::move(line);
    ++client_;
    stalled_ = false;
}

void Port::disconnect() {
    const std::lock_guard lock(mutex_);
    line_.reset();
}

bool Port::receive_all(int stop, const Receive &receive) {
    // Only this thread changes what line_ and client_ are.
    std::array<uint8_t, 4096> buffer;
    while (true) {
        std::array<pollfd, 2> waiting = {{{line_.get(), POLLIN, 0}, {stop, POLLIN, 0}}};
        if (poll(waiting.data(), waiting.size(), -1) < 0 && errno != EINTR) {
            throw std::system_error(errno, std::generic_category(), "cannot wait for bytes");
        }
        if (waiting[1].revents != 0) {
            return false;
        }
        if (waiting[0].revents == 0) {
            continue;
        }
        const ssize_t got = read(line_.get(), buffer.data(), buffer.size());
        if (got > 0) {
            receive(buffer.data(), static_cast<size_t>(got), client_);
        } else if (got == 0 || (errno != EINTR && errno != EAGAIN)) {
            return true;
        }
    }
}

void Port::send(const uint8_t *data, size_t bytes, uint64_t client) {
    const std::lock_guard lock(mutex_);
    while (bytes > 0 && line_ && client == client_) {
        pollfd waiting = {line_.get(), POLLOUT, 0};
        const int ready = poll(&waiting, 1, stalled_ ? 0 : kPatienceMs);
        if (ready < 0 && errno == EINTR) {
            continue;
        }
        stalled_ = ready == 0;
        if (ready <= 0 || (waiting.revents & POLLOUT) == 0) {
            return;
        }
        const ssize_t put = write(line_.get(), data, bytes);
        if (put > 0) {
            data += put;
            bytes -= static_cast<size_t>(put);
        } else if (errno != EINTR && errno != EAGAIN) {
            return;
        }
    }
}

}  // namespace nestling::linux_board
