"""Targets: what turns a stage into a program for one kind of processor."""

import logging

# Before torchao is imported, here and in the processes that lower: it remarks on its GPU libraries.
logging.getLogger("torchao").setLevel(logging.ERROR)
