// The C functions of nestling.h that run a model: sessions and prefetches.
#include <algorithm>
#include <memory>
#include <span>

#include "api_guard.h"
#include "nestling.h"
#include "prefetch.h"
#include "session.h"
#include "status.h"

using nestling::guarded;
using nestling::null_argument;

extern "C" {

int nst_prefetch_start(nst_model *model, uint32_t path, uint32_t mode, nst_progress progress,
                       void *user, nst_prefetch **out, nst_error *err) {
    if (model == nullptr || out == nullptr) {
        return null_argument(err);
    }
    *out = nullptr;
    return guarded(err, [&]() -> int {
        const nestling::Plan *plan = nullptr;
        if (int code = model->find_plan(path, mode, &plan, nullptr, err); code != NST_OK) {
            return code;
        }
        auto prefetch = std::make_unique<nst_prefetch>(*model, path, mode, *plan, progress, user);
        prefetch->start();
        *out = prefetch.release();
        return NST_OK;
    });
}

void nst_prefetch_cancel(nst_prefetch *prefetch) {
    if (prefetch != nullptr) {
        prefetch->cancel();
    }
}

int nst_prefetch_done(const nst_prefetch *prefetch) {
    return prefetch == nullptr || prefetch->done() ? 1 : 0;
}

int nst_prefetch_wait(nst_prefetch *prefetch, nst_error *err) {
    if (prefetch == nullptr) {
        return null_argument(err);
    }
    const int code = prefetch->wait(err);
    delete prefetch;
    return code;
}

int nst_session_create(nst_model *model, nst_session **out, nst_error *err) {
    if (model == nullptr || out == nullptr) {
        return null_argument(err);
    }
    *out = nullptr;
    return guarded(err, [&]() -> int {
        auto session = std::make_unique<nst_session>(*model);
        if (int code = session->open(err); code != NST_OK) {
            return code;
        }
        *out = session.release();
        return NST_OK;
    });
}

void nst_session_destroy(nst_session *session) {
    delete session;
}

int nst_session_select(nst_session *session, uint32_t path, uint32_t mode, nst_error *err) {
    if (session == nullptr) {
        return null_argument(err);
    }
    return guarded(err, [&] { return session->select(path, mode, err); });
}

int nst_session_select_stages(nst_session *session, const uint32_t *stages, uint32_t count,
                              nst_error *err) {
    if (session == nullptr || stages == nullptr) {
        return null_argument(err);
    }
    return guarded(err, [&] { return session->select_stages({stages, count}, err); });
}

int nst_session_stages(const nst_session *session, uint32_t *out_stages, uint32_t capacity,
                       uint32_t *out_count, nst_error *err) {
    if (session == nullptr || out_stages == nullptr || out_count == nullptr) {
        return null_argument(err);
    }
    const std::span<const uint32_t> stages = session->stages();
    *out_count = static_cast<uint32_t>(stages.size());
    if (capacity < stages.size()) {
        return nestling::failf(err, NST_E_LIMIT, {}, stages.size(), capacity,
                               "room for too few stages");
    }
    std::copy(stages.begin(), stages.end(), out_stages);
    return NST_OK;
}

int nst_session_bind_input(nst_session *session, uint32_t slot, const void *data, size_t bytes,
                           nst_error *err) {
    if (session == nullptr) {
        return null_argument(err);
    }
    // The engine only reads it; ExecuTorch's tensors know no const memory.
    return session->bind(slot, NST_INPUT, const_cast<void *>(data), bytes, err);
}

int nst_session_bind_output(nst_session *session, uint32_t slot, void *data, size_t bytes,
                            nst_error *err) {
    if (session == nullptr) {
        return null_argument(err);
    }
    return session->bind(slot, NST_OUTPUT, data, bytes, err);
}

int nst_session_tensor(nst_session *session, uint32_t slot, nst_tensor *out, nst_error *err) {
    if (session == nullptr || out == nullptr) {
        return null_argument(err);
    }
    return session->tensor(slot, out, err);
}

int nst_session_run(nst_session *session, nst_error *err) {
    if (session == nullptr) {
        return null_argument(err);
    }
    return guarded(err, [&] { return session->run(err); });
}

void nst_session_cancel(nst_session *session) {
    if (session != nullptr) {
        session->cancel();
    }
}

int nst_session_reset_state(nst_session *session, nst_error *err) {
    if (session == nullptr) {
        return null_argument(err);
    }
    session->reset_state();
    return NST_OK;
}

int nst_session_growth(const nst_session *session, nst_growth *out, nst_error *err) {
    if (session == nullptr || out == nullptr) {
        return null_argument(err);
    }
    const nestling::Growth &growth = session->growth();
    *out = {growth.position(), growth.limit(), session->tokens(), 0};
    return NST_OK;
}

int nst_session_run_tokens(nst_session *session, uint32_t tokens, nst_error *err) {
    if (session == nullptr) {
        return null_argument(err);
    }
    return guarded(err, [&] { return session->run_rows(tokens, err); });
}

int nst_session_rewind(nst_session *session, uint32_t position, nst_error *err) {
    if (session == nullptr) {
        return null_argument(err);
    }
    session->growth().rewind(position);
    return NST_OK;
}

int nst_session_selection(const nst_session *session, nst_selection *out, nst_error *err) {
    if (session == nullptr || out == nullptr) {
        return null_argument(err);
    }
    session->selection(out);
    return NST_OK;
}

}  // extern "C"
