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
    def __pos__(self) -> Any: return self
    def __abs__(self): return ops.abs(self)
    def __mod__(self, other) -> Any: return ops.remainder(self, other)
    def __rmod__(self, other) -> Any: return ops.remainder(other, self)
    def __floordiv__(self, other) -> Any: return ops.floor_divide(self, other)
    def __rfloordiv__(self, other) -> Any: return ops.floor_divide(other, self)
    def __round__(self, decimals=0) -> Any: return ops.round(self, decimals=decimals)
    def __matmul__(self, other) -> Any: return ops.matmul(self, other)
    def __rmatmul__(self, other) -> Any: return ops.matmul(other, self)
    def __getitem__(self, index): return ops.getitem(self, index=index)
    def __gt__(self, other) -> Any: return ops.greater(self, other)
    def __ge__(self, other) -> Any: return ops.greater_equal(self, other)
    def __lt__(self, other) -> Any: return ops.less(self, other)
    def __le__(self, other) -> Any: return ops.less_equal(self, other)
    def __eq__(self, other) -> Any: return ops.equal(self, other)
    def __ne__(self, other) -> Any: return ops.not_equal(self, other)
    def __and__(self, other) -> Any: return ops.bitwise_and(self, other)
    def __rand__(self, other) -> Any: return ops.bitwise_and(other, self)
    def __or__(self, other) -> Any: return ops.bitwise_or(self, other)
    def __ror__(self, other) -> Any: return ops.bitwise_or(other, self)
    def __invert__(self) -> Any: return ops.invert(self)

    def __setitem__(self, index, values):
        raise TypeError("a tensor's entries can't be assigned, for backward may need the old ones: make a new tensor with where() or concatenate(), "
                        "or change a parameter's values between two steps by x.data[...] = ...")

    # NumPy's functions call these methods with dtype=None and out=None: np.sum(x), np.mean(x, axis=0), np.clip(x, 0, 1)

    def sum(self, axis=None, keepdims=False, **others): return ops.sum(self, axis=axis, keepdims=keepdims, **_unused("sum", others))
    def mean(self, axis=None, keepdims=False, **others): return ops.mean(self, axis=axis, keepdims=keepdims, **_unused("mean", others))
    def max(self, axis=None, keepdims=False, **others): return ops.max(self, axis=axis, keepdims=keepdims, **_unused("max", others))
    def min(self, axis=None, keepdims=False, **others): return ops.min(self, axis=axis, keepdims=keepdims, **_unused("min", others))
    def prod(self, axis=None, keepdims=False, **others): return ops.prod(self, axis=axis, keepdims=keepdims, **_unused("prod", others))
    def any(self, axis=None, keepdims=False, **others): return ops.any(self, axis=axis, keepdims=keepdims, **_unused("any", others))
    def all(self, axis=None, keepdims=False, **others): return ops.all(self, axis=axis, keepdims=keepdims, **_unused("all", others))
    def argmax(self, axis=None, keepdims=False, **others): return ops.argmax(self, axis=axis, keepdims=keepdims, **_unused("argmax", others))
    def argmin(self, axis=None, keepdims=False, **others): return ops.argmin(self, axis=axis, keepdims=keepdims, **_unused("argmin", others))
    def cumsum(self, axis=None, **others): return ops.cumsum(self, axis=axis, **_unused("cumsum", others))
    def clip(self, a_min=None, a_max=None, **others): return ops.clip(self, a_min, a_max, **_unused("clip", others))
    def round(self, decimals=0, **others): return ops.round(self, decimals=decimals, **_unused("round", others))

    def var(self, axis=None, keepdims=False, ddof=0, **others):
        return ops.var(self, axis=axis, keepdims=keepdims, ddof=ddof, **_unused("var", others))

    def std(self, axis=None, keepdims=False, ddof=0, **others):
        return ops.std(self, axis=axis, keepdims=keepdims, ddof=ddof, **_unused("std", others))

    def reshape(self, *shape, **others):
        if others.pop("order", "C") != "C":
            raise TypeError("reshape: order is always 'C'")
        return ops.reshape(self, shape=shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape, **others)

    def transpose(self, *axes):
        return ops.transpose(self, axes=axes[0] if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], (tuple, list))) else axes or None)

    def swapaxes(self, axis1, axis2): return ops.swapaxes(self, axis1=axis1, axis2=axis2)
    def ravel(self, **others): return self.reshape(-1, **others)
    def flatten(self): return self.reshape(-1)
    def squeeze(self, axis=None): return ops.squeeze(self, axis)
    def repeat(self, repeats, axis=None): return ops.repeat(self, repeats=repeats, axis=axis)
    def take(self, indices, axis=None, **others): return ops.take(self, indices=indices, axis=axis, **_unused("take", others))
    def dot(self, other): return ops.dot(self, other)
    def trace(self, offset=0, axis1=0, axis2=1, **others): return ops.trace(self, offset, axis1, axis2, **_unused("trace", others))
    def diagonal(self, offset=0, axis1=0, axis2=1): return ops.diagonal(self, offset=offset, axis1=axis1, axis2=axis2)
    @property
    def T(self) -> Any:
        return ops.transpose(self)


def _unused(name: str, others: dict[str, Any]) -> dict[str, Any]:
    """What NumPy's functions hand on beside what these methods take: None, or a default."""
    for key, value in others.items():
        if key in ("dtype", "out", "mode") and (value is None or value == "raise"):
            continue
        raise TypeError(f"{name}: {key} isn't taken of a tensor (it was {value!r})")
    return {}
