#include "tables.h"

#include <algorithm>
#include <unordered_map>

#include "core/targets.h"
#include "program_image.h"
#include "status.h"

namespace nestling {
namespace {

std::string text(const nst_text &value) {
    return std::string(value.data, value.bytes);
}

int corrupt(nst_error *err, const char *table) {
    return failf(err, NST_E_CORRUPT, {.section = table, .stage = {}}, 0, 0,
                 "the manifest changed while it was read");
}

// Appends the indices of `list`; false when the bytes are not what was checked.
bool read_indices(nst_list list, std::vector<uint32_t> *out) {
    out->reserve(list.count);
    uint32_t index = 0;
    int code = NST_OK;
    while ((code = nst_list_next_index(&list, &index)) == NST_OK) {
        out->push_back(index);
    }
    return code == NST_E_END;
}

bool read_bindings(const nst_bundle &bundle, nst_list list, std::vector<Binding> *out) {
    out->reserve(list.count);
    nst_text name{};
    uint32_t constant = 0;
    int code = NST_OK;
    while ((code = nst_list_next_binding(&bundle, &list, &name, &constant)) == NST_OK) {
        out->push_back({std::string_view(name.data, name.bytes), constant});
    }
    std::sort(out->begin(), out->end(),
              [](const Binding &a, const Binding &b) { return a.name < b.name; });
    return code == NST_E_END;
}

uint64_t distinct_bytes(const Tables &tables, const std::vector<Binding> &bindings) {
    std::vector<uint32_t> used;
    used.reserve(bindings.size());
    for (const Binding &binding : bindings) {
        used.push_back(binding.constant);
    }
    std::sort(used.begin(), used.end());
    used.erase(std::unique(used.begin(), used.end()), used.end());
    uint64_t bytes = 0;
    for (const uint32_t constant : used) {
        bytes += tables.constants[constant].size;
    }
    return bytes;
}

int read_constants(const nst_bundle &bundle, Tables *out, nst_error *err) {
    out->constants.resize(bundle.count[NST_CONSTANTS]);
    for (uint32_t i = 0; i < out->constants.size(); ++i) {
        nst_constant_info info;
        if (nst_bundle_constant(&bundle, i, &info) != NST_OK) {
            return corrupt(err, "constants");
        }
        Constant &constant = out->constants[i];
        constant.key = std::string_view(info.key.data, info.key.bytes);
        constant.data = info.data;
        constant.size = info.size;
        constant.section = info.section;
        constant.has_layout = info.has_layout;
        constant.dtype = info.dtype;
        if (info.has_layout) {
            constant.shape.assign(info.shape, info.shape + info.rank);
            constant.dim_order.assign(info.dim_order, info.dim_order + info.rank);
        }
    }
    return NST_OK;
}

int read_stages(const nst_bundle &bundle, Tables *out, nst_error *err) {
    out->stages.resize(bundle.count[NST_STAGES]);
    for (uint32_t i = 0; i < out->stages.size(); ++i) {
        nst_stage_info info;
        Stage &stage = out->stages[i];
        if (nst_bundle_stage(&bundle, i, &info) != NST_OK ||
            !read_indices(info.inputs, &stage.inputs) ||
            !read_indices(info.outputs, &stage.outputs) ||
            !read_bindings(bundle, info.bindings, &stage.bindings)) {
            return corrupt(err, "stages");
        }
        stage.name = text(info.name);
        stage.program = info.program;
        stage.first = info.first;
        stage.last = info.last;
        stage.level = info.level;
        stage.bits = info.bits;
        stage.macs = info.macs;
        stage.arena_bytes = info.arena_bytes;
        stage.weight_bytes = distinct_bytes(*out, stage.bindings);
        out->arena_bytes = std::max(out->arena_bytes, info.arena_bytes);
        out->max_arguments =
            std::max(out->max_arguments, stage.inputs.size() + stage.outputs.size());
    }
    return NST_OK;
}

int read_targets(const nst_bundle &bundle, Tables *out, nst_error *err) {
    const uint32_t count = nst_bundle_target_count(&bundle);
    nst_text name{};
    for (uint32_t i = 0; i < count; ++i) {
        if (nst_bundle_target(&bundle, i, &name) != NST_OK) {
            return corrupt(err, "programs");
        }
        out->targets.push_back(text(name));
    }
    for (uint32_t i = 0; i < out->stages.size(); ++i) {
        if (nst_bundle_stage_target(&bundle, i, &name) != NST_OK) {
            return corrupt(err, "stages");
        }
        const auto found = std::find(out->targets.begin(), out->targets.end(), text(name));
        if (found == out->targets.end()) {
            return corrupt(err, "programs");
        }
        out->stages[i].target = static_cast<uint32_t>(found - out->targets.begin());
        for (uint32_t other = 0; count > 1 && other < count; ++other) {
            const std::string &target = out->targets[other];
            out->stand_ins.push_back(nst_bundle_stand_in(&bundle, i, target.data(), target.size()));
        }
    }
    return NST_OK;
}

int read_paths(const nst_bundle &bundle, Tables *out, nst_error *err) {
    out->paths.resize(bundle.count[NST_PATHS]);
    for (uint32_t i = 0; i < out->paths.size(); ++i) {
        nst_path_info info;
        Path &path = out->paths[i];
        if (nst_bundle_path(&bundle, i, &info) != NST_OK ||
            !read_indices(info.chain, &path.chain)) {
            return corrupt(err, "paths");
        }
        path.name = text(info.name);
        path.fused = info.fused;
        path.parameters = info.parameters;
        path.macs = info.macs;
        path.weight_bytes = info.weight_bytes;
    }
    return NST_OK;
}

void count_buffers(Tables *tables) {
    std::vector<uint32_t> writers(tables->slots.size());
    for (const Stage &stage : tables->stages) {
        for (const uint32_t slot : stage.outputs) {
            const bool in_and_out =
                std::find(stage.inputs.begin(), stage.inputs.end(), slot) != stage.inputs.end();
            writers[slot] += in_and_out ? 2 : 1;
        }
    }
    for (size_t i = 0; i < tables->slots.size(); ++i) {
        Slot &slot = tables->slots[i];
        const bool twice = writers[i] > 1 || (slot.role == NST_STATE && !slot.grows);
        slot.buffers = slot.append != NST_NONE ? 0 : twice ? 2 : 1;
    }
}

// Whether a stage may read or write one slot in the place of the other: the same, or another cache.
bool interchange(const Slot &a, const Slot &b) {
    const bool rows = (a.grows && b.grows) || (a.append != NST_NONE && b.append != NST_NONE);
    return &a == &b || (rows && a.dtype == b.dtype && a.shape == b.shape);
}

bool is_visit(const Tables &tables, const Stage &a, const Stage &b) {
    const auto same_slots = [&](const std::vector<uint32_t> &x, const std::vector<uint32_t> &y) {
        return std::equal(x.begin(), x.end(), y.begin(), y.end(), [&](uint32_t i, uint32_t j) {
            return interchange(tables.slots[i], tables.slots[j]);
        });
    };
    return same_slots(a.inputs, b.inputs) && same_slots(a.outputs, b.outputs) &&
           std::equal(a.bindings.begin(), a.bindings.end(), b.bindings.begin(), b.bindings.end(),
                      [](const Binding &x, const Binding &y) {
                          return x.constant == y.constant && x.name == y.name;
                      });
}

// Stages that stand in for each other fail to load one by one, so there each is loaded for itself.
void find_visits(Tables *tables) {
    std::vector<std::vector<uint32_t>> loaded(tables->programs.size());
    for (uint32_t i = 0; i < tables->stages.size(); ++i) {
        Stage &stage = tables->stages[i];
        std::vector<uint32_t> &others = loaded[stage.program];
        const auto found = std::find_if(others.begin(), others.end(), [&](uint32_t other) {
            return tables->targets.size() == 1 && is_visit(*tables, tables->stages[other], stage);
        });
        stage.loaded_as = found != others.end() ? *found : i;
        if (found == others.end()) {
            others.push_back(i);
        }
    }
}

int check_delegate_names(const Tables &tables, nst_error *err) {
    std::unordered_map<std::string_view, uint32_t> meaning;
    for (const Stage &stage : tables.stages) {
        for (const Binding &binding : stage.bindings) {
            if (tables.constants[binding.constant].has_layout || is_symbol(binding.name)) {
                continue;  // resolved by the method itself, or named anew for each model
            }
            const auto [entry, fresh] = meaning.emplace(binding.name, binding.constant);
            if (!fresh && entry->second != binding.constant) {
                return failf(err, NST_E_CORRUPT, {.section = "stages", .stage = stage.name},
                             entry->second, binding.constant,
                             "the weight %.80s means two constants",
                             std::string(binding.name).c_str());
            }
        }
    }
    return NST_OK;
}

}  // namespace

int Tables::read(const nst_bundle &bundle, nst_error *err) {
    sections.resize(bundle.count[NST_SECTIONS]);
    for (uint32_t i = 0; i < sections.size(); ++i) {
        nst_section_info info;
        if (nst_bundle_section(&bundle, i, &info) != NST_OK) {
            return corrupt(err, "sections");
        }
        sections[i] = {text(info.name), info.offset, info.size};
    }
    slots.resize(bundle.count[NST_SLOTS]);
    for (uint32_t i = 0; i < slots.size(); ++i) {
        nst_slot_info info;
        if (nst_bundle_slot(&bundle, i, &info) != NST_OK) {
            return corrupt(err, "slots");
        }
        slots[i] = {text(info.name), info.dtype,
                    info.role,       std::vector<int32_t>(info.shape, info.shape + info.rank),
                    info.bytes,      1,
                    info.append};
    }
    for (const Slot &slot : slots) {
        if (slot.append != NST_NONE) {
            slots[slot.append].grows = true;
        }
    }
    programs.resize(bundle.count[NST_PROGRAMS]);
    for (uint32_t i = 0; i < programs.size(); ++i) {
        nst_program_info info;
        if (nst_bundle_program(&bundle, i, &info) != NST_OK) {
            return corrupt(err, "programs");
        }
        programs[i] = {info.data, info.size, info.unpacked_bytes, info.section, text(info.method)};
    }
    if (int code = read_constants(bundle, this, err); code != NST_OK) {
        return code;
    }
    if (int code = read_stages(bundle, this, err); code != NST_OK) {
        return code;
    }
    if (int code = read_targets(bundle, this, err); code != NST_OK) {
        return code;
    }
    if (int code = read_paths(bundle, this, err); code != NST_OK) {
        return code;
    }
    count_buffers(this);
    find_visits(this);
    return check_delegate_names(*this, err);
}

}  // namespace nestling
