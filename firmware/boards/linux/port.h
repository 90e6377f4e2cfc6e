// Where clients come from: a serial port, a pseudo-terminal or TCP. One client at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "file_descriptor.h"

namespace nestling::linux_board {

// A line on which bytes come and go. One thread calls `run`, another one `send`.
class Port {
  public:
    // Bytes of a client; `client` counts clients, from 1.
    using Receive = std::function<void(const uint8_t *data, size_t bytes, uint64_t client)>;

    // std::runtime_error with one sentence when it cannot be had.
    static std::unique_ptr<Port> serial(const std::string &device, unsigned baud);
    static std::unique_ptr<Port> pseudo_terminal();
    // `address`: HOST:PORT, numbers or names; port 0 lets the system choose.
    static std::unique_ptr<Port> tcp(const std::string &address);

    virtual ~Port() = default;
    Port(const Port &) = delete;
    Port &operator=(const Port &) = delete;

    // What pyserial's serial_for_url opens: a device file or socket://HOST:PORT.
    const std::string &url() const { return url_; }

    // Receives until `stop` becomes readable. std::runtime_error when the line is lost for good (a
    // serial adapter that was pulled out).
    virtual void run(int stop, const Receive &receive) = 0;

    // Sends to a client. Bytes for one that is gone are dropped, as are those that nobody takes for
    // a second: a serial line does not wait either.
    void send(const uint8_t *data, size_t bytes, uint64_t client);

  protected:
    Port() = default;

    // Reads from the present client until it hangs up (true) or `stop` is readable (false).
    bool receive_all(int stop, const Receive &receive);
    void connect(FileDescriptor line);
    void disconnect();

    std::string url_;

  private:
    std::mutex mutex_;  // of what follows, against a disconnect while something is sent
    FileDescriptor line_;
    uint64_t client_ = 0;
    bool stalled_ = false;  // nobody took the last bytes: do not wait again
};

}  // namespace nestling::linux_board
