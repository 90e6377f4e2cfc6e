"""Language models whose size changes from one token to the next.

================  =================================================================================
`corpus`          real English and code that every Python installation carries
`tokenizer`       a small byte-level BPE
`training`        one loss for every exit and every mix of paths
`scoring`         whole windows at once, every token on a path of its own
`decoder`         token by token with a key-value cache: the oracle of the native decode loop
`policies`        which path makes the next token: the papers' parameters and formulas
`controllers`     the policies at work on the decoder, many conversations at once
`speculation`     drafting with a small path, verifying with a large one
================  =================================================================================
"""
