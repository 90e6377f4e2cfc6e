// The gate of reading ahead, told times as it would measure them. Prints "ok".
#include "expert_gate.h"

#include <cstdio>
#include <cstdlib>

namespace {

using nestling::ExpertGate;
using nestling::MovingMean;

void check(bool holds, const char *what) {
    if (!holds) {
        std::fprintf(stderr, "%s\n", what);
        std::exit(1);
    }
}

// Of nanoseconds, each told once.
ExpertGate gate_of(uint64_t read, uint64_t ask, uint64_t wake) {
    ExpertGate gate;
    gate.note_read(read);
    gate.note_ask(ask);
    gate.note_wake(wake);
    return gate;
}

}  // namespace

int main() {
    check(ExpertGate().pays(0, 0, 0), "what is not known is tried");

    check(!gate_of(4'000, 5'000, 40'000).pays(1, 1e6, 0), "a read that is shorter than asking");
    check(gate_of(4'000, 5'000, 40'000).pays(3, 1e6, 0), "several such reads");
    check(!gate_of(4'000, 5'000, 40'000).pays(3, 1e6, 8'000), "that cost a prediction as well");
    check(gate_of(1'000'000, 5'000, 40'000).pays(1, 200'000, 0), "a long read");
    check(!gate_of(1'000'000, 5'000, 40'000).pays(1, 30'000, 0), "needed before the thread is up");
    check(!gate_of(1'000'000, 5'000, 40'000).pays(0, 200'000, 0), "nothing was missing lately");

    ExpertGate closed = gate_of(4'000, 5'000, 40'000);
    int tried = 0;
    for (int i = 0; i < 1280; ++i) {
        tried += closed.pays(1, 1e6, 0) ? 1 : 0;
    }
    check(tried == 10, "a closed gate is tried now and then");

    MovingMean mean;
    for (int i = 0; i < 200; ++i) {
        mean.note(10.0);
    }
    mean.note(1e9);
    check(mean.mean() < 13.0, "an outlier moves a mean by a bounded step");
    std::puts("ok");
}
