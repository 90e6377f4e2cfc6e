// Temperature and battery of this computer, as the kernel tells them.
#pragma once

#include <string>

#include "core/smp_server.h"

namespace nestling::linux_board {

// Reads `root`/class/thermal (the hottest zone) and `root`/class/power_supply (the first battery);
// `root` is "/sys". What is not there is left out. The struct comes zeroed.
void read_sensors(const std::string &root, nst_smp_sensors *out);

}  // namespace nestling::linux_board
