from core.server import reader

__all__ = ["reader"]
