"""What can be done with a tensor by symbols and methods: each is an operation under another name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

ops: Any = SimpleNamespace()  # each operation by its name; operation.py fills it, so that tensors can call what is defined on top of them


class Operators:
    """The symbols and NumPy's methods; Tensor is the only subclass."""

    __slots__ = ()

    def __add__(self, other) -> Any: return ops.add(self, other)
    def __radd__(self, other) -> Any: return ops.add(other, self)
    def __sub__(self, other) -> Any: return ops.subtract(self, other)
    def __rsub__(self, other) -> Any: return ops.subtract(other, self)
    def __mul__(self, other) -> Any: return ops.multiply(self, other)
    def __rmul__(self, other) -> Any: return ops.multiply(other, self)
    def __truediv__(self, other) -> Any: return ops.divide(self, other)
    def __rtruediv__(self, other) -> Any: return ops.divide(other, self)
    def __pow__(self, other) -> Any: return ops.power(self, other)
    def __rpow__(self, other) -> Any: return ops.power(other, self)
    def __neg__(self): return ops.negative(self)
    def __abs__(self): return ops.abs(self)
    def __matmul__(self, other) -> Any: return ops.matmul(self, other)
    def __rmatmul__(self, other) -> Any: return ops.matmul(other, self)
    def __getitem__(self, index): return ops.getitem(self, index=index)
    def __gt__(self, other) -> Any: return ops.greater(self, other)
    def __ge__(self, other) -> Any: return ops.greater_equal(self, other)
    def __lt__(self, other) -> Any: return ops.less(self, other)
    def __le__(self, other) -> Any: return ops.less_equal(self, other)
    def __eq__(self, other) -> Any: return ops.equal(self, other)
    def __ne__(self, other) -> Any: return ops.not_equal(self, other)

    def sum(self, axis=None, keepdims=False): return ops.sum(self, axis=axis, keepdims=keepdims)
    def mean(self, axis=None, keepdims=False): return ops.mean(self, axis=axis, keepdims=keepdims)
    def max(self, axis=None, keepdims=False): return ops.max(self, axis=axis, keepdims=keepdims)
    def min(self, axis=None, keepdims=False): return ops.min(self, axis=axis, keepdims=keepdims)
    def var(self, axis=None, keepdims=False): return ops.var(self, axis=axis, keepdims=keepdims)
    def reshape(self, *shape): return ops.reshape(self, shape=shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape)
    def transpose(self, *axes): return ops.transpose(self, axes=axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes or None)
    def swapaxes(self, a, b): return ops.swapaxes(self, a=a, b=b)
    @property
    def T(self) -> Any:
        return ops.transpose(self)
