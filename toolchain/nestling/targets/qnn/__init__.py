"""Qualcomm's Hexagon NPU (HTP) through ExecuTorch's QNN delegate.

The compiler and an x86 simulator of the processor come with PyPI's `onnxruntime-qnn`, under
Qualcomm's own licence: this package asks for it and holds none of it. `host` makes those libraries
fit ExecuTorch's backend, `stages` quantises and lowers.
"""
