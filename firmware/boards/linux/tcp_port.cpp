// A port that is a TCP server, for clients that reach the device through a network or a forwarded
// port.
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "port.h"

namespace nestling::linux_board {
namespace {

void turn_on(int socket, int level, int option) {
    const int on = 1;
    setsockopt(socket, level, option, &on, sizeof on);
}

// Further clients wait in the listening socket until the one before them has hung up.
class TcpPort : public Port {
  public:
    TcpPort(FileDescriptor listening, std::string url) : listening_(std::move(listening)) {
        url_ = std::move(url);
    }

    void run(int stop, const Receive &receive) override {
        while (true) {
            std::array<pollfd, 2> waiting = {{{listening_.get(), POLLIN, 0}, {stop, POLLIN, 0}}};
            if (poll(waiting.data(), waiting.size(), -1) < 0 && errno != EINTR) {
                throw std::system_error(errno, std::generic_category(), "cannot wait for clients");
            }
            if (waiting[1].revents != 0) {
                return;
            }
            FileDescriptor client(
                accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
            if (!client) {
                continue;  // it has gone already, or it was a signal
            }
            turn_on(client.get(), IPPROTO_TCP, TCP_NODELAY);
            turn_on(client.get(), SOL_SOCKET, SO_KEEPALIVE);
            connect(std::move(client));
            const bool hung_up = receive_all(stop, receive);
            disconnect();
            if (!hung_up) {
                return;
            }
        }
    }

  private:
    FileDescriptor listening_;
};

struct FreeAddresses {
    void operator()(addrinfo *list) const { freeaddrinfo(list); }
};

std::string bound_to(int socket) {
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    std::array<char, NI_MAXHOST> host{};
    std::array<char, NI_MAXSERV> service{};
    if (getsockname(socket, reinterpret_cast<sockaddr *>(&address), &length) != 0 ||
        getnameinfo(reinterpret_cast<sockaddr *>(&address), length, host.data(), host.size(),
                    service.data(), service.size(), NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        throw std::runtime_error("cannot tell which TCP port was chosen");
    }
    const std::string name = host.data();
    return (name.find(':') == std::string::npos ? name : "[" + name + "]") + ":" + service.data();
}

}  // namespace

std::unique_ptr<Port> Port::tcp(const std::string &address) {
    const size_t colon = address.rfind(':');
    if (colon == std::string::npos || colon == 0) {
        throw std::runtime_error("--tcp takes HOST:PORT, such as 127.0.0.1:0");
    }
    std::string host = address.substr(0, colon);
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
        host = host.substr(1, host.size() - 2);
    }
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE;
    addrinfo *found = nullptr;
    const int failed = getaddrinfo(host.c_str(), address.substr(colon + 1).c_str(), &hints, &found);
    if (failed != 0) {
        throw std::runtime_error("no such address, " + address + ": " + gai_strerror(failed));
    }
    const std::unique_ptr<addrinfo, FreeAddresses> list(found);
    FileDescriptor listening(
        socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (listening) {
        turn_on(listening.get(), SOL_SOCKET, SO_REUSEADDR);
    }
    if (!listening || bind(listening.get(), list->ai_addr, list->ai_addrlen) != 0 ||
        listen(listening.get(), 4) != 0) {
        throw std::system_error(errno, std::generic_category(), "cannot listen on " + address);
    }
    std::string url = "socket://" + bound_to(listening.get());
    return std::make_unique<TcpPort>(std::move(listening), std::move(url));
}

}  // namespace nestling::linux_board
