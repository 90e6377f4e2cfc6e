"""Any CPU through ExecuTorch's own kernels, without a delegate."""
