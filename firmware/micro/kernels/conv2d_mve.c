#include "micro/kernels/conv2d.h"
#include "micro/kernels/variant.h"
#if NST_MVE
void nst_conv2d_run(const void *params, void *const *tensors, void *scratch) { nst_conv2d_portable(params, tensors, scratch); }
#endif
