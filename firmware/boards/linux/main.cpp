// nestlingd: a Linux device that speaks nestling's protocol. `nestlingd --help` is the manual.
//
// Three threads: this one reads the line (and waits for signals); the server's thread answers; a
// run has a thread of its own, during which the server goes on answering what does not touch the
// model.
#include <sys/signalfd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "device.h"
#include "file_descriptor.h"
#include "options.h"
#include "port.h"

namespace {

using nestling::linux_board::Device;
using nestling::linux_board::FileDescriptor;
using nestling::linux_board::Options;
using nestling::linux_board::parse_options;
using nestling::linux_board::Port;

constexpr int kExitUsage = 2;
// More than any request. What a client sends on top, while it has no answer, is lost, as on a
// serial line.
constexpr size_t kMostWaitingBytes = 1 << 20;

// A descriptor that is readable once somebody wants this process to end. Blocks the signals, here
// and in threads that start later.
FileDescriptor catch_signals() {
    sigset_t ends;
    sigemptyset(&ends);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
        sigaddset(&ends, signal);
    }
    pthread_sigmask(SIG_BLOCK, &ends, nullptr);
    std::signal(SIGPIPE, SIG_IGN);  // clients that hang up are no reason to end
    FileDescriptor readable(signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!readable) {
        throw std::system_error(errno, std::generic_category(), "cannot wait for signals");
    }
    return readable;
}

std::unique_ptr<Port> open_port(const Options &options) {
    if (!options.serial.empty()) {
        return Port::serial(options.serial, options.baud);
    }
    return options.pseudo_terminal ? Port::pseudo_terminal() : Port::tcp(options.tcp);
}

[[noreturn]] void fail(const nst_error &err) {
    std::string sentence = err.message;
    if (err.expected != 0 || err.actual != 0) {
        sentence += " (expected " + std::to_string(err.expected) + ", actual " +
                    std::to_string(err.actual) + ")";
    }
    throw std::runtime_error(sentence);
}

// The server's thread. A device that cannot go on ends the process: a supervisor starts it again,
// as a watchdog would.
void serve(Device &device) {
    nst_error err{};
    if (device.serve_until_end(&err) != NST_OK) {
        std::fprintf(stderr, "nestlingd: %s\n", err.message);
        std::_Exit(EXIT_FAILURE);
    }
}

int run(const Options &options) {
    const FileDescriptor stop = catch_signals();
    const std::unique_ptr<Port> port = open_port(options);
    Device device(options.device, [&port](const uint8_t *data, size_t bytes, uint64_t client) {
        port->send(data, bytes, client);
    });
    nst_error err{};
    if (device.open(nullptr, &err) != NST_OK) {
        fail(err);
    }
    std::printf("ready %s\n", port->url().c_str());
    std::fflush(stdout);

    std::jthread server([&device] { serve(device); });
    struct AtEnd {
        Device &device;
        ~AtEnd() { device.end(); }  // before the thread is waited for, however this function ends
    } const at_end{device};
    port->run(stop.get(), [&device](const uint8_t *data, size_t bytes, uint64_t client) {
        if (device.inbox().bytes() < kMostWaitingBytes) {
            device.inbox().push(data, bytes, client);
        }
    });
    return EXIT_SUCCESS;
}

}  // namespace

int main(int count, char **words) {
    try {
        const std::optional<Options> options = parse_options(count, words);
        return options ? run(*options) : EXIT_SUCCESS;
    } catch (const std::invalid_argument &wrong) {
        std::fprintf(stderr, "nestlingd: %s\n", wrong.what());
        return kExitUsage;
    } catch (const std::exception &failed) {
        std::fprintf(stderr, "nestlingd: %s\n", failed.what());
        return EXIT_FAILURE;
    }
}
