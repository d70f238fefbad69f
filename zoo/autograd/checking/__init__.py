"""Check gradients against differences, and an operation against every law that operations keep."""

from .gradients import arrays, broadcastable, check_gradients, check_operation, shapes

__all__ = ["arrays", "broadcastable", "check_gradients", "check_operation", "shapes"]
