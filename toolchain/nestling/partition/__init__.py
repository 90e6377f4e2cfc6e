"""Cut a supernet into stages that share their weights.

``cut`` makes the pieces at layer grain and ``blocks`` at block grain, ``modules`` is what a piece
computes, ``wires`` what connects them, ``calibrate`` records the real inputs of each piece.
"""
