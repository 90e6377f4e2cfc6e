"""Fixes the order in which torch sums up, before torch looks at the processor."""

import os

# Kernels for softmax and layer_norm follow torch's float operations on vectors of 8.
os.environ.setdefault("ATEN_CPU_CAPABILITY", "avx2")
