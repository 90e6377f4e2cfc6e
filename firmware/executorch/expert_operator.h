// `nestling::experts.out`, and how it learns whose experts are meant.
#pragma once

#include <cstdint>

#include "core/error.h"

namespace nestling {

class ExpertStore;

// While one lives, calls of the operator on this thread are served by this store. An error of theirs
// is kept here, since ExecuTorch passes on a bare number.
class ExpertScope {
  public:
    // `request`: calls of one run, or of one conversation, share it.
    ExpertScope(ExpertStore &store, uint32_t request);
    ~ExpertScope();
    ExpertScope(const ExpertScope &) = delete;
    ExpertScope &operator=(const ExpertScope &) = delete;

    static ExpertScope *current();

    ExpertStore &store() { return store_; }
    uint32_t request() const { return request_; }
    nst_error *error() { return &error_; }
    // The error of a call, with the stage that it was made in; else `code`, and `err` as it is.
    int explain(int code, const char *stage, nst_error *err) const;

  private:
    ExpertStore &store_;
    uint32_t request_;
    nst_error error_;
    ExpertScope *outer_;
};

// Makes the operator known to ExecuTorch.
void register_experts();

}  // namespace nestling
