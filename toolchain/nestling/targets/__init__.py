"""Targets: what turns a stage into a program for one kind of processor."""
