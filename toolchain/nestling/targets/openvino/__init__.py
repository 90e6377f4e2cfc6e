"""Intel's CPUs, GPUs and NPUs of PCs through ExecuTorch's OpenVINO delegate.

The delegate's binary holds a whole model, weights and all, and shares nothing between programs: its
grain is the block.
"""
