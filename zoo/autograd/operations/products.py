"""Products beyond matmul: einsum, and what can be said by it."""

from __future__ import annotations

import builtins
import string

import numpy as np

from ..operation import composed, primitive
from . import checks
from .arithmetic import broadcast_to, multiply
from .indexing import diagonal
from .linear import matmul
from .shaping import expand_dims, ravel, reshape


def _einsum(*operands, subscripts):
    return np.einsum(subscripts, *operands, optimize=len(operands) > 2)


_einsum.__name__, _einsum.__doc__ = "einsum", "y = the sum of products that the subscripts name, as in NumPy"
_einsum_operation = primitive(_einsum)
_einsum_operation.takes_sequence = False


@_einsum_operation.check
def _(*operands, subscripts):
    if not isinstance(subscripts, str) or subscripts.count("->") != 1:
        raise ValueError(f"einsum: subscripts are {checks.shown(subscripts)}; here they are letters, commas and one ->")
    lengths: dict[str, int] = {}
    terms = subscripts.partition("->")[0].split(",")
    if len(terms) != len(operands):
        raise ValueError(f"einsum: subscripts {subscripts!r} name {len(terms)} operands, {len(operands)} were given")
    for term, operand in zip(terms, operands):
        if len(term) != operand.ndim or len(set(term)) < len(term):
            raise ValueError(f"einsum: {term!r} doesn't name each axis of its operand, shape {operand.shape}, once")
        for c, n in zip(term, operand.shape):
            if lengths.setdefault(c, n) != n:
                raise ValueError(f"einsum: {c!r} in {subscripts!r} has the lengths {lengths[c]} and {n}")


@_einsum_operation.derivatives
def _(g, _y, i, *operands, subscripts):
    inputs, output = subscripts.split("->")
    inputs = inputs.split(",")
    others = [(s, o) for j, (s, o) in enumerate(zip(inputs, operands)) if j != i]
    known = set(output).union(*(s for s, _ in others))
    reach = "".join(c for c in inputs[i] if c in known)  # letters of this operand alone were summed: the gradient repeats along them
    y = _einsum_operation(g, *(o for _, o in others), subscripts=",".join([output, *(s for s, _ in others)]) + "->" + reach)
    shape = operands[i].shape
    if reach != inputs[i]:
        y = reshape(y, shape=tuple(n if c in known else 1 for c, n in zip(inputs[i], shape)))
    return broadcast_to(y, shape=shape)


def einsum(subscripts, *operands):
    """NumPy's einsum: einsum("bij,bjk->bik", a, b), with ellipses, letters that repeat, lengths of 1 that broadcast, and sublists.

    Before the operation itself runs, ellipses become letters, letters that an operand repeats become its diagonal, and lengths
    of 1 that broadcast are taken out, so that its rule sees plain letters only.

    >>> einsum("ij,kj->ik", [[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]])
    array([[11., 17.]])
    """
    if not isinstance(subscripts, str):
        subscripts, operands = _from_sublists(subscripts, *operands)
    operands = tuple([checks.array("einsum: an operand", o) for o in operands])
    terms, output = _parse(subscripts, operands)
    lengths: dict[str, int] = {}
    for term, operand in zip(terms, operands):
        for c, n in zip(term, operand.shape):
            if lengths.setdefault(c, n) != n and 1 not in (n, lengths[c]):
                raise ValueError(f"einsum: {c!r} in {subscripts!r} has the lengths {lengths[c]} and {n}")
            lengths[c] = n if lengths[c] == 1 else lengths[c]
    plain = [_distinct(term, operand, lengths, subscripts) for term, operand in zip(terms, operands)]
    return _einsum_operation(*(o for _, o in plain), subscripts=",".join(term for term, _ in plain) + "->" + output)


def _distinct(term: str, operand, lengths: dict[str, int], subscripts: str):
    """The operand with each letter once, and without letters along which it's to be broadcast."""
    for c in dict.fromkeys(term):
        while term.count(c) > 1:
            i = term.index(c)
            j = term.index(c, i + 1)
            if operand.shape[i] != operand.shape[j]:
                raise ValueError(f"einsum: {c!r} in {subscripts!r} has the lengths {operand.shape[i]} and {operand.shape[j]} in one operand")
            operand = diagonal(operand, axis1=i, axis2=j)
            term = term[:i] + term[i + 1 : j] + term[j + 1 :] + c
    broadcast = [operand.shape[i] == 1 and lengths[c] != 1 for i, c in enumerate(term)]
    if builtins.any(broadcast):
        operand = reshape(operand, shape=tuple(n for n, b in zip(operand.shape, broadcast) if not b))
        term = "".join(c for c, b in zip(term, broadcast) if not b)
    return term, operand


def _parse(subscripts: str, operands: tuple) -> tuple[list[str], str]:
    """A letter for each axis of each operand, and of the result."""
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(operands):
        raise ValueError(f"einsum: subscripts {subscripts!r} name {len(terms)} operands, {len(operands)} were given")
    letters = (inputs + output).replace("...", "").replace(",", "")
    if not set(letters) <= set(string.ascii_letters):
        raise ValueError(f"einsum: subscripts are {checks.shown(subscripts)}; axes are letters, operands are separated by commas, "
                         "the result follows ->")
    spare = [c for c in string.ascii_letters if c not in letters]
    hidden = 0  # axes that the longest ellipsis stands for
    for term, operand in zip(terms, operands):
        named = len(term.replace("...", ""))
        if term.count("...") > 1 or (named > operand.ndim if "..." in term else named != operand.ndim):
            raise ValueError(f"einsum: {term!r} names {named} axes, its operand has shape {operand.shape}")
        hidden = builtins.max(hidden, operand.ndim - named) if "..." in term else hidden
    ellipsis = "".join(spare[:hidden])
    full = [term.replace("...", ellipsis[hidden - (operand.ndim - len(term.replace("...", ""))):]) for term, operand in zip(terms, operands)]
    if arrow:
        output = output.replace("...", ellipsis)
    else:
        output = (ellipsis if "..." in inputs else "") + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    if len(set(output)) < len(output) or not set(output) <= set("".join(full)):
        raise ValueError(f"einsum: subscripts are {checks.shown(subscripts)}; the result names letters of the operands, each once")
    return full, output


def _from_sublists(*arguments) -> tuple[str, tuple]:
    """einsum(a, [0, 1], b, [1, 2], [0, 2]) as einsum("ab,bc->ac", a, b)."""
    def letter(i) -> str:
        if i is Ellipsis:
            return "..."
        if checks.integer("einsum: an axis of a sublist", i, 0) >= len(string.ascii_letters):
            raise ValueError(f"einsum: an axis of a sublist is {i}; it is at most {len(string.ascii_letters) - 1}")
        return string.ascii_letters[i]

    def term(sublist) -> str:
        if not isinstance(sublist, (list, tuple)):
            raise TypeError(f"einsum: a list of axes is {checks.shown(sublist)}; operands and lists of integers take turns")
        return "".join(letter(i) for i in sublist)

    if len(arguments) < 2:
        raise TypeError(f"einsum: subscripts are {checks.shown(arguments[0])}; they are a text, or lists of axes after each operand")
    pairs, result = arguments[: len(arguments) // 2 * 2], arguments[len(arguments) // 2 * 2 :]
    inputs = ",".join(term(sublist) for sublist in pairs[1::2])
    return inputs + "".join("->" + term(sublist) for sublist in result), pairs[::2]


def tensordot(a, b, axes=2):
    """Products summed over axes: of the last `axes` of a with the first of b, or over (axes of a, axes of b)"""
    a_shape, b_shape = checks.array("tensordot: a", a).shape, checks.array("tensordot: b", b).shape
    if len(a_shape) + len(b_shape) > len(string.ascii_letters):
        raise ValueError(f"tensordot: a has shape {a_shape}, b {b_shape}; they have at most {len(string.ascii_letters)} axes together")
    if isinstance(axes, (tuple, list)):
        if len(axes) != 2:
            raise ValueError(f"tensordot: axes is {checks.shown(axes)}; it is a number of axes, or those of a and those of b")
        of_a, of_b = (checks.axes("tensordot: axes", i, len(shape)) for i, shape in zip(axes, (a_shape, b_shape)))
    else:
        count = checks.integer("tensordot: axes", axes, 0)
        if count > builtins.min(len(a_shape), len(b_shape)):
            raise ValueError(f"tensordot: axes is {checks.shown(axes)}; a has shape {a_shape}, b {b_shape}")
        of_a, of_b = tuple(range(len(a_shape) - count, len(a_shape))), tuple(range(count))
    lengths = [a_shape[i] for i in of_a], [b_shape[i] for i in of_b]
    if lengths[0] != lengths[1]:
        raise ValueError(f"tensordot: axes is {checks.shown(axes)}; they have the lengths {lengths[0]} in a and {lengths[1]} in b")
    of_b_letters = list(string.ascii_letters[len(a_shape) : len(a_shape) + len(b_shape)])
    for i, j in zip(of_a, of_b):
        of_b_letters[j] = string.ascii_letters[i]
    a_term, b_term = string.ascii_letters[: len(a_shape)], "".join(of_b_letters)
    result = "".join(c for c in a_term if c not in b_term) + "".join(c for c in b_term if c not in a_term)
    return einsum(f"{a_term},{b_term}->{result}", a, b)


@composed
def dot(a, b):
    """As np.dot: numbers multiply, vectors give their inner product, of others a's last axis meets b's last but one"""
    of_a, of_b = checks.array("dot: a", a).ndim, checks.array("dot: b", b).ndim
    if of_a == 0 or of_b == 0:
        return multiply(a, b)
    if of_a <= 2 and of_b <= 2:
        return matmul(a, b)
    return tensordot(a, b, axes=((-1,), (-2 if of_b > 1 else -1,)))


def inner(a, b):
    """Products summed over the last axes of both"""
    if checks.array("inner: a", a).ndim == 0 or checks.array("inner: b", b).ndim == 0:
        return multiply(a, b)
    return tensordot(a, b, axes=((-1,), (-1,)))


def outer(a, b):
    """Each entry of a times each of b: (a.size, b.size)"""
    return expand_dims(ravel(a), 1) * expand_dims(ravel(b), 0)


def kron(a, b):
    """Each entry of a times all of b, as blocks of one array"""
    shapes = [checks.array("kron: a", a).shape, checks.array("kron: b", b).shape]
    ndim = builtins.max(map(len, shapes))
    shapes = [(1,) * (ndim - len(shape)) + shape for shape in shapes]
    blocks = reshape(a, shape=tuple(m for n in shapes[0] for m in (n, 1))) * reshape(b, shape=tuple(m for n in shapes[1] for m in (1, n)))
    return reshape(blocks, shape=tuple(n * m for n, m in zip(*shapes)))
