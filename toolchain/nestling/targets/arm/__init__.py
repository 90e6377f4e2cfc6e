"""Arm's neural processors, compiled from TOSA: Ethos-U, and neural GPUs by way of VGF.

Both compilers bury weights in one binary a stage, so stages are cut in blocks: each weight is then
in one stage only.
"""
