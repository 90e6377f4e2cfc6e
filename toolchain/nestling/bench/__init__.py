"""Measurements of a bundle, as records that a program can check and a table that people can read.

One file a metric family: `bytes`, `memory`, `latency`, `parity`, `retention`, `peers`. Each has one
function that takes a `Subject` and gives records; `suite` calls them all. `native` drives the C++
programs in
`firmware/bench`, `sidecar` keeps what a bundle does not carry (the dense programs that it is
compared with),
`models` builds the networks of `make bench`.
"""
