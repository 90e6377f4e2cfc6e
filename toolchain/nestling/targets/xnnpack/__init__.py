"""The mobile CPU, x86 and arm64, through ExecuTorch's XNNPACK delegate."""
