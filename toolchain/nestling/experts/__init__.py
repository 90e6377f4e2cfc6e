"""Mixture-of-experts layers whose experts are data: modules, routing, slices, index, conversions.

``layer`` is the block that networks are built of, ``bank`` its experts and ``routing`` who takes
which. ``operator`` is what stands for the experts in a stage, ``slices`` and ``index`` are the
bytes that the device loads. ``carve`` and ``virtual`` make experts of one feed-forward block.
"""
