"""ONNX in: read a file, find what can be elastic, make a supernet of it.

`read` reads and checks, `trace` makes one flat graph of it, `simplify` brings that into one form
(`operators` has what both it and the finders ask of a graph).
`attention`, `feed_forward` and `convolutions` each find places of one kind, `chain` chooses those
that follow one another, `nest` builds the supernet and holds it against the model.
"""
