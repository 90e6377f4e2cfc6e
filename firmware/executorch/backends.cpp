#include "backends.h"

#include <dlfcn.h>
#include <executorch/runtime/backend/interface.h>

#include <mutex>

#include "log.h"

namespace nestling {
namespace {

namespace et = executorch::runtime;

struct BackendEntry {
    std::string_view target;  // or how the names of a family of targets begin
    const char *backend;      // ExecuTorch's name of it; null: its own kernels do
    const char *library;  // registers the backend when it is loaded; null: linked in, or nowhere
    const char *needs;    // what the backend itself must find
    uint32_t record_factor;
    bool keeps_program;
};

// XNNPACK keeps about 2 KB for each operator, ExecuTorch's own records come to little beside them.
// Measured: 7 to 10 bytes of heap for each byte of program, over fp32 and int8, single layers and
// whole networks. Other backends have the weights inside their programs and keep a copy.
constexpr BackendEntry kBackends[] = {
    {"xnnpack", "XnnpackBackend", nullptr, nullptr, 8, false},
    {"portable", nullptr, nullptr, nullptr, 8, false},
    {"openvino", "OpenvinoBackend", "libexecutorch_backend_openvino.so",
     "libopenvino_c.so cannot be loaded (package openvino; OPENVINO_LIB_PATH names the file)", 2,
     false},
    {"qnn", "QnnBackend", "libexecutorch_backend_qnn.so", "Qualcomm's libraries are missing", 2,
     true},
    {"vulkan", "VulkanBackend", nullptr, "no Vulkan device", 2, true},
    {"coreml", "CoreMLBackend", nullptr, "no Core ML", 2, true},
    {"vgf", "VgfBackend", nullptr, "no Vulkan device with Arm's extensions", 2, true},
    {"ethos-u", "EthosUBackend", nullptr, "no Ethos-U driver", 2, true},
};

const BackendEntry *find(std::string_view target) {
    for (const BackendEntry &entry : kBackends) {
        if (target.starts_with(entry.target)) {
            return &entry;
        }
    }
    return nullptr;
}

// Loads a library that lies beside libexecutorch.so, or wherever the system looks. Empty: loaded.
std::string load_library(const char *name) {
    Dl_info info;
    const auto *known = reinterpret_cast<const void *>(&et::get_num_registered_backends);
    if (dladdr(known, &info) != 0 && info.dli_fname != nullptr) {
        const std::string beside(info.dli_fname);
        const size_t slash = beside.rfind('/');
        if (slash != std::string::npos && dlopen((beside.substr(0, slash + 1) + name).c_str(),
                                                 RTLD_NOW | RTLD_LOCAL) != nullptr) {
            return {};
        }
    }
    if (dlopen(name, RTLD_NOW | RTLD_LOCAL) != nullptr) {
        return {};
    }
    const char *reason = dlerror();
    return reason != nullptr ? reason : std::string(name) + " cannot be loaded";
}

}  // namespace

TargetState look_up_target(std::string_view target) {
    static std::mutex mutex;
    const std::lock_guard<std::mutex> lock(mutex);
    const LogCapture log;
    TargetState state;
    const BackendEntry *entry = find(target);
    if (entry == nullptr) {
        state.reason = "this library has no backend for it";
        return state;
    }
    state.record_factor = entry->record_factor;
    state.keeps_program = entry->keeps_program;
    if (entry->backend == nullptr) {
        state.runs = true;
        return state;
    }
    const et::BackendInterface *backend = et::get_backend_class(entry->backend);
    if (backend == nullptr && entry->library != nullptr) {
        state.reason = load_library(entry->library);
        backend = et::get_backend_class(entry->backend);
    }
    if (backend == nullptr) {
        if (state.reason.empty()) {
            state.reason = std::string("this process has no ") + entry->backend;
        }
    } else if (!backend->is_available()) {
        state.reason = entry->needs != nullptr ? entry->needs : "its backend is not available";
    } else {
        state.runs = true;
        state.reason.clear();
    }
    return state;
}

}  // namespace nestling
