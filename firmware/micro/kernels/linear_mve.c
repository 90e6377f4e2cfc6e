#include "micro/kernels/linear.h"
#include "micro/kernels/variant.h"
#if NST_MVE
void nst_linear_run(const void *params, void *const *tensors, void *scratch) { nst_linear_portable(params, tensors, scratch); }
#endif
