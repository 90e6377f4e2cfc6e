"""Cut a supernet into stages that share their weights.

``cut`` makes the pieces at layer grain, ``blocks`` at block grain, and ``whole`` those of plain
exports that share nothing. ``modules`` is what a piece computes, ``wires`` what connects them,
``calibrate`` records the real inputs of each piece.
"""
