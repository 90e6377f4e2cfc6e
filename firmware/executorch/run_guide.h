// Looking into a run between its stages.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/error.h"

struct nst_session;

namespace nestling {

// Told before each stage of a run; may change what the stage reads, by nst_session::pointer, run an
// earlier one again, by nst_session::repeat, or say that another one runs in its place.
class RunGuide {
  public:
    virtual ~RunGuide() = default;
    // `step` of the session's plan is next. `*stage` is what runs, at first the plan's own; another
    // one must be loaded and pinned, of the same position, and read and write slots among those of
    // the plan's own. NST_NONE: none. A slot that is then not written keeps its value, except rows of
    // growing slots, which somebody must write.
    virtual int before(nst_session &session, size_t step, uint32_t *stage, nst_error *err) = 0;
};

}  // namespace nestling
