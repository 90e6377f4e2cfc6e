"""Cadence HiFi DSPs through ExecuTorch's Cadence backend.

The backend has no delegate: it replaces operators by its own, whose kernels are Cadence's. Here
they are executed by the backend's reference implementations in Python, which compute what kernels
must.
"""
