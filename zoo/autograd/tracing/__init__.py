"""Looking inside a model that runs (`watching.py`: `trace` and `patch`), and writing down what it does to do it again faster (`compiled.py`)."""

from .compiled import Compiled, compile
from .watching import ModuleTrace, Patch, Seen, Trace, UnknownName, patch, trace, watched

__all__ = ["Compiled", "ModuleTrace", "Patch", "Seen", "Trace", "UnknownName", "compile", "patch", "trace", "watched"]
