// Ports that are terminals: a serial device, and a pseudo-terminal that stands in for one.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "port.h"

namespace nestling::linux_board {
namespace {

constexpr std::array<std::pair<unsigned, speed_t>, 12> kSpeeds = {{{9600, B9600},
                                                                   {19200, B19200},
                                                                   {38400, B38400},
                                                                   {57600, B57600},
                                                                   {115200, B115200},
                                                                   {230400, B230400},
                                                                   {460800, B460800},
                                                                   {921600, B921600},
                                                                   {1000000, B1000000},
                                                                   {1500000, B1500000},
                                                                   {2000000, B2000000},
                                                                   {4000000, B4000000}}};

[[noreturn]] void fail(const std::string &what) {
    throw std::system_error(errno, std::generic_category(), what);
}

// Bytes as they are: no echo, no lines, no flow control; `speed` B0: whatever it is.
void make_raw(int terminal, speed_t speed, const std::string &name) {
    termios settings{};
    if (tcgetattr(terminal, &settings) != 0) {
        fail(name + " is not a serial port");
    }
    cfmakeraw(&settings);
    settings.c_cflag |= CLOCAL | CREAD;
    settings.c_cflag &= ~static_cast<tcflag_t>(CRTSCTS | CSTOPB);
    settings.c_cc[VMIN] = 1;
    settings.c_cc[VTIME] = 0;
    if (speed != B0) {
        cfsetispeed(&settings, speed);
        cfsetospeed(&settings, speed);
    }
    if (tcsetattr(terminal, TCSANOW, &settings) != 0) {
        fail(name + " does not take the settings of a serial line");
    }
}

class Terminal : public Port {
  public:
    // `other_end` stays open with the port, so that a client that leaves is not the end of the
    // line.
    Terminal(FileDescriptor line, FileDescriptor other_end, std::string url)
        : other_end_(std::move(other_end)) {
        url_ = std::move(url);
        connect(std::move(line));
    }

    void run(int stop, const Receive &receive) override {
        if (receive_all(stop, receive)) {
            throw std::runtime_error("the serial port " + url_ + " is gone");
        }
    }

  private:
    FileDescriptor other_end_;
};

}  // namespace

std::unique_ptr<Port> Port::serial(const std::string &device, unsigned baud) {
    speed_t speed = B0;
    for (const auto &[number, constant] : kSpeeds) {
        speed = number == baud ? constant : speed;
    }
    if (speed == B0) {
        throw std::runtime_error("no serial port runs at " + std::to_string(baud) + " baud");
    }
    FileDescriptor line(open(device.c_str(), O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
    if (!line) {
        fail("cannot open " + device);
    }
    make_raw(line.get(), speed, device);
    // Another program on the same line would take bytes away. Not every terminal can be had alone.
    ioctl(line.get(), TIOCEXCL);
    tcflush(line.get(), TCIOFLUSH);
    return std::make_unique<Terminal>(std::move(line), FileDescriptor(), device);
}

std::unique_ptr<Port> Port::pseudo_terminal() {
    FileDescriptor master(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    std::array<char, 128> name{};
    if (!master || grantpt(master.get()) != 0 || unlockpt(master.get()) != 0 ||
        ptsname_r(master.get(), name.data(), name.size()) != 0) {
        fail("cannot make a pseudo-terminal");
    }
    FileDescriptor client(open(name.data(), O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (!client || fcntl(master.get(), F_SETFL, O_RDWR | O_NONBLOCK) != 0) {
        fail("cannot open a pseudo-terminal");
    }
    make_raw(client.get(), B0, name.data());
    return std::make_unique<Terminal>(std::move(master), std::move(client), name.data());
}

}  // namespace nestling::linux_board
