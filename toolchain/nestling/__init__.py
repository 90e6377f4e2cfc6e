"""nestling's toolchain: from a torch model to one bundle that holds many sub-networks.

The rooms, in the order that a model passes through them: `elastic` (supernets), `training`,
`quantize`, `partition`, `targets`, `bundle`, then `export` which reads like that arrow. `bench`
measures the result, `cli` is the command line. What runs on a device is in `nestling_runtime`,
which never imports this package.
"""

__version__ = "0.1.0"
