"""Language models whose size changes from one token to the next.

================  =================================================================================
`corpus`          real English and code that every Python installation carries
`tokenizer`       a byte-level BPE
`training`        one loss for every exit and every mix of paths
`scoring`         whole windows at once, every token on a path of its own
`decoder`         token by token with a key-value cache: the oracle of the native decode loop
`policies`        which path makes the next token: the papers' parameters and formulas
`running`         the policies at work, on given text and on text of the model's own
`costs`, `bits`   what a token costs in multiply-accumulates, and what it is worth
`speculation`     drafting with a small path, verifying with a large one
`router`          every route above the core: the best one, a learnt one, a random one
================  =================================================================================
"""
