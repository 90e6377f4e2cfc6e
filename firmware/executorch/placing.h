// Where the stages of a path run best, by what they took so far.
#pragma once

#include "model.h"
#include "nestling.h"

namespace nestling {

// As nst_model_place; `path` and the room at `out_stages` were checked.
int place_path(nst_model &model, uint32_t path, const nst_transfer &transfer, uint32_t *out_stages,
               double *out_us, nst_error *err);

}  // namespace nestling
