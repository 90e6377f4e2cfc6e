// The bundle's element types in ExecuTorch's words.
#pragma once

#include <executorch/runtime/core/exec_aten/exec_aten.h>

#include "core/bundle.h"

namespace nestling {

inline executorch::aten::ScalarType scalar_type(nst_dtype dtype) {
    using executorch::aten::ScalarType;
    switch (dtype) {
        case NST_F32:
            return ScalarType::Float;
        case NST_F16:
            return ScalarType::Half;
        case NST_I64:
            return ScalarType::Long;
        case NST_I32:
            return ScalarType::Int;
        case NST_U8:
            return ScalarType::Byte;
        case NST_I8:
            return ScalarType::Char;
        case NST_BOOL:
            return ScalarType::Bool;
    }
    return ScalarType::Undefined;
}

}  // namespace nestling
