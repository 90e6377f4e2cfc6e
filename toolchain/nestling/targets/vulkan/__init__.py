"""Mobile GPUs (Adreno, Mali and others) through ExecuTorch's Vulkan delegate.

ExecuTorch's wheels hold no Vulkan runtime: a program for this target is compiled here, and runs on
a phone or in an ExecuTorch that was built with `EXECUTORCH_BUILD_VULKAN`. What can be checked
without one is checked: every matrix product and convolution is inside the delegate, constants are
named by their content and so are stored once, and the delegate's final graph (after its own
fusions, with its own custom operators) is executed operator by operator in eager torch.
"""
