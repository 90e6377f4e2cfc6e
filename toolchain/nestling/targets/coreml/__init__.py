"""Apple's Neural Engine and GPUs through ExecuTorch's Core ML delegate.

A delegate is a whole Core ML package with its weights, so stages are cut in blocks: each weight is
then in one package only. Packages cannot share a weight file; what Core ML does share is the
weights of several functions of one package (since iOS 18), which would make all widths of a layer
one file that a device must hold even where it runs the narrowest alone.

There is no Core ML outside of macOS and iOS. Checked here are the package's own program (MIL: its
operators, the weights in it), and the graph that it was made from, executed by torch in the
package's precision.
"""

import logging

# Before it is imported: it remarks on the parts of it that are on Apple's systems only.
logging.getLogger("coremltools").setLevel(logging.ERROR)
