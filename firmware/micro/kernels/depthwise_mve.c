#include "micro/kernels/depthwise.h"
#include "micro/kernels/variant.h"
#if NST_MVE
void nst_depthwise_run(const void *params, void *const *tensors, void *scratch) { nst_depthwise_portable(params, tensors, scratch); }
#endif
