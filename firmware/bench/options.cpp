#include "options.h"

#include <stdexcept>

namespace nestling_bench {

namespace {

std::pair<std::string, std::string> split(const std::string &text) {
    const size_t at = text.find('=');
    if (at == std::string::npos) {
        throw std::runtime_error("expected NAME=FILE, got " + text);
    }
    return {text.substr(0, at), text.substr(at + 1)};
}

}  // namespace

Options parse_options(int count, char **words) {
    if (count < 2) {
        throw std::runtime_error(
            "usage: nestling-bench speed|memory --bundle B [--threads N] [--seconds S] [--rounds R]"
            " [--fused PATH] [--chain PATH] [--plain PATH=FILE] [--input FILE]");
    }
    Options options;
    options.command = words[1];
    for (int at = 2; at + 1 < count; at += 2) {
        const std::string name = words[at];
        const std::string value = words[at + 1];
        if (name == "--bundle") {
            options.bundle = value;
        } else if (name == "--threads") {
            options.threads = static_cast<unsigned>(std::stoul(value));
        } else if (name == "--seconds") {
            options.seconds = std::stod(value);
        } else if (name == "--rounds") {
            options.rounds = std::stoi(value);
        } else if (name == "--fused") {
            options.fused.push_back(value);
        } else if (name == "--chain") {
            options.chain.push_back(value);
        } else if (name == "--plain") {
            options.plain.push_back(split(value));
        } else if (name == "--input") {
            options.inputs.push_back(value);
        } else {
            throw std::runtime_error("unknown option " + name);
        }
    }
    if (count % 2 != 0) {
        throw std::runtime_error(std::string("option without a value: ") + words[count - 1]);
    }
    return options;
}

}  // namespace nestling_bench
