#include "memory.h"

#include <malloc.h>

#include <fstream>
#include <sstream>

namespace nestling_bench {

namespace {

// "Rss:      132 kB" -> 132 * 1024 added to `sum`, when the line is of that field.
void add_field(const std::string &line, const char *field, int64_t &sum) {
    if (line.rfind(field, 0) == 0) {
        sum += std::stoll(line.substr(std::string(field).size())) * 1024;
    }
}

// A mapping's heading is "7f2c...-7f2c... r--p 00000000 fe:01 1234  /path"; fields have a colon in
// their first word instead.
bool is_heading(const std::string &line) {
    const size_t space = line.find(' ');
    return space != std::string::npos && line.find('-') < space && line.find(':') > space;
}

}  // namespace

Memory read_memory(const std::string &file) {
    malloc_trim(0);
    Memory memory;
    bool of_file = false;
    std::ifstream smaps("/proc/self/smaps");
    for (std::string line; std::getline(smaps, line);) {
        if (is_heading(line)) {
            of_file = !file.empty() && line.size() > file.size() && line.ends_with(file);
            continue;
        }
        add_field(line, "Rss:", memory.rss);
        add_field(line, "Pss:", memory.pss);
        add_field(line, "Anonymous:", memory.anonymous);
        if (of_file) {
            add_field(line, "Rss:", memory.mapped_file);
        }
    }
    return memory;
}

void write_memory(JsonWriter &json, const Memory &memory) {
    json.open_object();
    json.key("rss").value(memory.rss);
    json.key("pss").value(memory.pss);
    json.key("anonymous").value(memory.anonymous);
    json.key("mapped_file").value(memory.mapped_file);
    json.close_object();
}

}  // namespace nestling_bench
