from core.device import device
from core.server import reader

__all__ = ["device", "reader"]
