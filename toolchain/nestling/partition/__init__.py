"""Cut a supernet into stages that share their weights.

``cut`` makes the pieces, ``modules`` is what a piece computes, ``calibrate`` records the real
inputs of each piece.
"""
