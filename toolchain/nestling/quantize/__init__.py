"""Quantisation: schemes, integer linears, static ranges from calibration data."""
