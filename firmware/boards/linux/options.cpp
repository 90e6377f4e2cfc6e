#include "options.h"

#include <getopt.h>

#include <array>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "nestling.h"
#include "public_key.h"

namespace nestling::linux_board {
namespace {

constexpr char kHelp[] =
    R"(nestlingd: run bundles on this computer, commanded over a serial line (SMP, as MCUmgr's)

    nestlingd --pty --flash device.flash
    nestlingd --tcp 127.0.0.1:0 --flash device.flash
    nestlingd --serial /dev/ttyS0 --baud 921600 --flash device.flash

When it is ready it prints one line, "ready URL": what a client gives to pyserial's serial_for_url.
It ends on SIGINT, SIGTERM and SIGHUP. Killing it at any moment is a power cut, and loses no model.

One of
  --serial DEVICE        serve a serial port; see --baud
  --pty                  make a pseudo-terminal and serve it
  --tcp HOST:PORT        listen there; port 0 lets the system choose. Whoever reaches it commands
                         the device: keep to 127.0.0.1 unless the network is yours

and
  --flash FILE           file that holds the two bundle slots; made when it is not there (required)

and, if need be
  --slot-bytes N         room for one bundle; default: as FILE has it, 64 MiB for a new one
  --baud N               of --serial, default 115200
  --threads N            threads of a run; default 0: all processors
  --budget-bytes N       memory for weights at the start; default 0: no limit
  --public-key FILE      key of `nestling keygen`, or its 32 bytes: refuse bundles that it did not
                         sign
  --message-bytes N      largest message, default 16384
  --name NAME            name of this device, default linux- and the processor
  --faults               let clients cut the power (kills this process): for tests
  --help, --version
)";

enum Choice : int {
    kSerial = 256,
    kPty,
    kTcp,
    kFlash,
    kSlotBytes,
    kBaud,
    kThreads,
    kBudgetBytes,
    kKey,
    kMessageBytes,
    kName,
    kFaults,
    kHelpChoice,
    kVersion
};

constexpr std::array<option, 15> kChoices = {
    {{"serial", required_argument, nullptr, kSerial},
     {"pty", no_argument, nullptr, kPty},
     {"tcp", required_argument, nullptr, kTcp},
     {"flash", required_argument, nullptr, kFlash},
     {"slot-bytes", required_argument, nullptr, kSlotBytes},
     {"baud", required_argument, nullptr, kBaud},
     {"threads", required_argument, nullptr, kThreads},
     {"budget-bytes", required_argument, nullptr, kBudgetBytes},
     {"public-key", required_argument, nullptr, kKey},
     {"message-bytes", required_argument, nullptr, kMessageBytes},
     {"name", required_argument, nullptr, kName},
     {"faults", no_argument, nullptr, kFaults},
     {"help", no_argument, nullptr, kHelpChoice},
     {"version", no_argument, nullptr, kVersion},
     {nullptr, 0, nullptr, 0}}};

template <typename Number>
Number number(const char *name, Number least, Number most) {
    Number value = 0;
    const char *end = optarg + std::strlen(optarg);
    const auto [stopped, failed] = std::from_chars(optarg, end, value);
    if (failed != std::errc() || stopped != end || value < least || value > most) {
        throw std::invalid_argument(std::string("--") + name + " takes a number from " +
                                    std::to_string(least) + " to " + std::to_string(most) +
                                    ", not " + optarg);
    }
    return value;
}

}  // namespace

std::optional<Options> parse_options(int count, char **words) {
    Options options;
    DeviceOptions &device = options.device;
    device.flash.durable = true;
    opterr = 0;
    int choice;
    while ((choice = getopt_long(count, words, "", kChoices.data(), nullptr)) != -1) {
        switch (choice) {
            case kSerial:
                options.serial = optarg;
                break;
            case kPty:
                options.pseudo_terminal = true;
                break;
            case kTcp:
                options.tcp = optarg;
                break;
            case kFlash:
                device.flash.path = optarg;
                break;
            case kSlotBytes:
                device.flash.slot_bytes = number<uint64_t>("slot-bytes", 1, uint64_t{1} << 40);
                break;
            case kBaud:
                options.baud = number<unsigned>("baud", 1, 4000000);
                break;
            case kThreads:
                device.executorch.threads = number<uint32_t>("threads", 0, 1024);
                break;
            case kBudgetBytes:
                device.executorch.budget_bytes =
                    number<uint64_t>("budget-bytes", 0, std::numeric_limits<uint64_t>::max());
                break;
            case kKey:
                device.executorch.public_key = read_public_key(optarg);
                device.executorch.has_key = true;
                break;
            case kMessageBytes:
                device.message_bytes =
                    number<uint32_t>("message-bytes", NST_SMP_LEAST_BUFFER_BYTES, 65533);
                break;
            case kName:
                device.name = optarg;
                break;
            case kFaults:
                device.faults = true;
                device.flash.cut_kills = true;
                break;
            case kHelpChoice:
                std::fputs(kHelp, stdout);
                return std::nullopt;
            case kVersion:
                std::printf("nestlingd %s\n", nst_version());
                return std::nullopt;
            default:
                throw std::invalid_argument(std::string(words[optind - 1]) +
                                            " is no option, or lacks its value; see --help");
        }
    }
    if (optind < count) {
        throw std::invalid_argument(std::string(words[optind]) + " is no option; see --help");
    }
    if ((options.serial.empty() ? 0 : 1) + (options.pseudo_terminal ? 1 : 0) +
            (options.tcp.empty() ? 0 : 1) !=
        1) {
        throw std::invalid_argument("give one of --serial, --pty and --tcp; see --help");
    }
    if (device.flash.path.empty()) {
        throw std::invalid_argument("give a --flash file; see --help");
    }
    return options;
}

}  // namespace nestling::linux_board
