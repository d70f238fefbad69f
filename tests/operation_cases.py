"""Arguments for every operation: small ones that Hypothesis draws, large ones for kernels, and extremes.

`CASES[name]` is a strategy for a `Case`.  An operation of the zoo that isn't here fails the suite (test_operations.py).
"""

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zoo.autograd.checking import arrays, broadcastable, shapes
from zoo.autograd.operations import indexing, quantised


class Case(NamedTuple):
    arguments: tuple
    settings: dict[str, Any] = {}
    rounding: float = 1e-5  # of float32, relative to the largest entry


CASES: dict[str, st.SearchStrategy[Case]] = {}
LARGE: dict[str, Any] = {}     # name -> function of rng -> list of cases: several tiles, odd lengths, more rows than threads
EXTREMES: dict[str, list[Case]] = {}


def plain(names: str, strategy, **options):
    """Elementwise operations: `strategy` draws one array, or a tuple of arrays whose shapes broadcast."""
    for name in names.split():
        CASES[name] = strategy.map(lambda a: Case(a if isinstance(a, tuple) else (a,), options))


def drawn(*names: str):
    """Decorator: a function of draw that returns a Case, under each of these names."""
    def register(function):
        for name in names:
            CASES[name] = st.composite(function)()
        return function
    return register


def one_of(*values):
    return st.sampled_from(values)


# --- elementwise

plain("identity negative exp sin cos tanh sigmoid softplus erf silu", arrays())
plain("log sqrt", arrays(positive=True))
plain("abs sign relu", arrays(away_from=0))
plain("add subtract multiply", broadcastable(2))
plain("divide", broadcastable(2, away_from=0))
plain("power", broadcastable(2, positive=True))
plain("greater greater_equal less less_equal equal not_equal", broadcastable(2).map(lambda ab: tuple(np.round(a) for a in ab)))
plain("maximum minimum", broadcastable(2).map(lambda ab: (np.round(4 * ab[0]) / 4, np.round(4 * ab[1]) / 4 + 0.125)))
plain("square exp2 expm1 tan arctan sinh cosh arcsinh", arrays(low=-1.25, high=1.25))
plain("floor ceil trunc", arrays(low=-1.5, high=1.5, away_from=(-1, 0, 1)))
plain("round", arrays(low=-1.25, high=1.25, away_from=(-0.5, 0.5)))
plain("log1p log2 log10", arrays(positive=True))
plain("arcsin arccos arctanh", arrays(low=-0.875, high=0.875))
plain("arccosh", arrays(low=1.25, high=4))
plain("logaddexp", broadcastable(2))
plain("arctan2 hypot", broadcastable(2, away_from=0))
plain("remainder floor_divide", broadcastable(2).map(lambda ab: (ab[0] + 0.25 / 64, np.where(ab[1] < 0, -1.5, 2.5))))
plain("bitwise_and bitwise_or", broadcastable(2).map(lambda ab: tuple(a > 0 for a in ab)))
plain("invert", arrays().map(lambda a: a > 0))
plain("where", broadcastable(3).map(lambda cab: (cab[0] > 0, cab[1], cab[2])))


@drawn("leaky_relu")
def _(draw):
    return Case((draw(arrays(away_from=0)),), {"slope": draw(one_of(0.01, 0.2))})


@drawn("gelu")
def _(draw):
    return Case((draw(arrays()),), {"approximate": draw(one_of("none", "tanh"))})


@drawn("dropout")
def _(draw):
    return Case((draw(arrays()),), {"p": draw(one_of(0.0, 0.3, 0.9)), "seed": draw(st.integers(0, 2**63 - 1))})


# --- sums and their kin

def axes(draw, ndim):
    if ndim == 0:
        return None
    several = st.lists(st.integers(0, ndim - 1), unique=True, max_size=ndim).map(tuple)
    return draw(st.none() | st.integers(-ndim, ndim - 1) | several)


def reduction(**options):
    def case(draw):
        x = draw(arrays(**options))
        return Case((x,), {"axis": axes(draw, x.ndim), "keepdims": draw(st.booleans())})
    return case


drawn("sum", "mean", "var", "logsumexp", "any", "all")(reduction())
drawn("max", "min")(reduction(distinct=True))
drawn("prod")(reduction())


@drawn("var", "std")
def _(draw):
    x = draw(arrays(shapes(min_dims=1, min_side=2), distinct=True))
    return Case((x,), {"axis": draw(st.none() | st.integers(0, x.ndim - 1)), "keepdims": draw(st.booleans()), "ddof": draw(one_of(0, 1))}, 1e-4)


@drawn("norm")
def _(draw):
    case = reduction(positive=True, distinct=True)(draw)  # two entries of the same size would be a kink, whatever their signs
    signs = np.random.default_rng(draw(st.integers(0, 99))).choice([-1.0, 1.0], case.arguments[0].shape)
    return Case((case.arguments[0] * signs,), {**case.settings, "ord": draw(one_of(1, 2, 3, 0.5, np.inf, -np.inf))}, 1e-4)


@drawn("argmax", "argmin")
def _(draw):
    x = draw(arrays())
    return Case((x,), {"axis": draw(st.none() | st.integers(-x.ndim, x.ndim - 1)) if x.ndim else None, "keepdims": draw(st.booleans())})


def along(strategy=None, **options):
    def case(draw):
        x = draw(strategy or arrays(shapes(min_dims=1), **options))
        return Case((x,), {"axis": draw(st.none() | st.integers(-x.ndim, x.ndim - 1))})
    return case


drawn("cumsum", "flip", "argsort")(along())
drawn("sort")(along(distinct=True))


@drawn("clip")
def _(draw):
    x, a, b = draw(broadcastable(3))
    bounds = one_of((np.round(4 * a) / 4 + 0.125, np.round(4 * a) / 4 + 0.625), (np.full((), -0.875), None), (None, np.round(4 * b) / 4 + 0.125))
    return Case((np.round(4 * x) / 4, *draw(bounds)))


@drawn("softmax", "log_softmax")
def _(draw):
    x = draw(arrays(shapes(min_dims=1)))
    return Case((x,), {"axis": draw(st.integers(-x.ndim, x.ndim - 1))})


BROADCAST = hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3)


@drawn("broadcast_to")
def _(draw):
    found = draw(BROADCAST)
    return Case((draw(arrays(found.input_shapes[0])),), {"shape": found.result_shape})


@drawn("sum_to")
def _(draw):
    found = draw(BROADCAST)
    return Case((draw(arrays(found.result_shape)),), {"shape": found.input_shapes[0]})


# --- shapes and indices

@drawn("reshape")
def _(draw):
    x = draw(arrays())
    return Case((x,), {"shape": draw(one_of(-1, (-1,), (x.size,), x.shape[::-1], (1, *x.shape), (*x.shape, -1), (-1, 1, x.size)))})


@drawn("transpose")
def _(draw):
    x = draw(arrays())
    order = st.permutations(range(x.ndim)).flatmap(lambda p: st.tuples(*(one_of(i, i - x.ndim) for i in p)))
    return Case((x,), {"axes": draw(st.none() | order)})


@drawn("swapaxes")
def _(draw):
    x = draw(arrays(shapes(min_dims=1)))
    axis = st.integers(-x.ndim, x.ndim - 1)
    return Case((x,), {"axis1": draw(axis), "axis2": draw(axis)})


@drawn("roll")
def _(draw):
    x = draw(arrays(shapes(min_dims=1)))
    shift, axis = st.integers(-5, 5), st.integers(-x.ndim, x.ndim - 1)
    shift, axis = draw(st.tuples(shift, st.none() | axis) | st.tuples(st.tuples(shift, shift), st.tuples(axis, axis)))
    return Case((x,), {"shift": shift, "axis": axis})


@drawn("repeat")
def _(draw):
    x = draw(arrays(shapes(min_dims=1)))
    axis = draw(st.none() | st.integers(-x.ndim, x.ndim - 1))
    n = x.size if axis is None else x.shape[axis]
    return Case((x,), {"repeats": draw(st.integers(0, 3) | st.lists(st.integers(0, 2), min_size=n, max_size=n)), "axis": axis})


@drawn("diagonal")
def _(draw):
    x = draw(arrays(shapes(min_dims=2)))
    axis1, axis2 = draw(st.permutations(range(x.ndim)))[:2]
    return Case((x,), {"offset": draw(st.integers(-3, 3)), "axis1": axis1, "axis2": axis2 - x.ndim})


@drawn("tril", "triu")
def _(draw):
    return Case((draw(arrays(shapes(min_dims=2))),), {"k": draw(st.integers(-3, 3))})


@drawn("concatenate")
def _(draw):
    shape = draw(shapes(min_dims=1))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    if draw(st.integers(0, 5)) == 0:
        return Case((draw(arrays()), draw(arrays(shape))), {"axis": None})
    lengths = draw(st.lists(st.integers(0, 3), min_size=2, max_size=3))
    place = axis % len(shape)
    return Case(tuple(draw(arrays((*shape[:place], n, *shape[place + 1:]))) for n in lengths), {"axis": axis})


@drawn("stack")
def _(draw):
    shape = draw(shapes(max_dims=2))
    several = tuple(draw(arrays(shape)) for _ in range(draw(st.integers(2, 3))))
    return Case(several, {"axis": draw(st.integers(-len(shape) - 1, len(shape)))})


def index_of(draw, shape):
    """Any index that NumPy takes: ints, slices, None, ..., integer arrays with repeats, bool arrays, and mixtures."""
    choices = [hnp.basic_indices(shape, allow_newaxis=True)]
    if shape:
        n = shape[0]
        places = st.lists(st.integers(-n, n - 1), min_size=1, max_size=4)
        choices += [hnp.integer_array_indices(shape), places, places.map(np.array), hnp.arrays(bool, shape), hnp.arrays(bool, n)]
        choices.append(places.map(lambda p: (np.array(p), ...)))
    if len(shape) > 1:
        m = shape[1]
        columns = st.lists(st.integers(-m, m - 1), min_size=1, max_size=4).map(np.array)
        choices += [columns.map(lambda c: (slice(None), c)), columns.map(lambda c: (0, c))]
        choices.append(columns.map(lambda c: (slice(None, None, -1), None, c)))
    return draw(st.one_of(choices))


@drawn("getitem")
def _(draw):
    x = draw(arrays())
    return Case((x,), {"index": index_of(draw, x.shape)})


@drawn("getitem_adjoint")
def _(draw):
    shape = draw(shapes())
    index = index_of(draw, shape)
    return Case((draw(arrays(np.zeros(shape)[index].shape)),), {"index": index, "shape": shape})


@drawn("take")
def _(draw):
    x = draw(arrays(shapes(min_dims=1)))
    axis = draw(st.none() | st.integers(-x.ndim, x.ndim - 1))
    n = x.size if axis is None else x.shape[axis]
    return Case((x,), {"indices": draw(hnp.arrays(np.int64, shapes(max_dims=2), elements=st.integers(-n, n - 1))), "axis": axis})


def along_axis(draw, shape):
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    place = axis % len(shape)
    n = shape[axis]
    if draw(st.integers(0, 5)) == 0:
        n = int(np.prod(shape))
        return draw(hnp.arrays(np.int64, draw(st.integers(1, 3)), elements=st.integers(-n, n - 1))), None
    others = [draw(one_of(m, m, 1)) for m in shape]  # the other axes broadcast
    others[place] = draw(st.integers(1, 3))
    return draw(hnp.arrays(np.int64, tuple(others), elements=st.integers(-n, n - 1))), axis


@drawn("take_along_axis")
def _(draw):
    x = draw(arrays(shapes(min_dims=1)))
    indices, axis = along_axis(draw, x.shape)
    return Case((x, indices), {"axis": axis})


@drawn("take_along_axis_adjoint")
def _(draw):
    shape = draw(shapes(min_dims=1))
    indices, axis = along_axis(draw, shape)
    read = np.take_along_axis(np.zeros(shape), indices, axis).shape
    return Case((draw(arrays(read)), indices), {"axis": axis, "shape": shape})


@drawn("pad")
def _(draw):
    x = draw(arrays(shapes(min_dims=1)))
    width = st.integers(0, 2)
    widths = draw(st.tuples(*(st.tuples(width, width) for _ in x.shape)) | st.tuples(width, width) | st.tuples(st.tuples(width, width)) | width)
    return Case((x,), {"widths": widths, "value": draw(one_of(0.0, 1.5)), "mode": draw(one_of(*indexing.MODES))})


# --- products

@drawn("matmul")
def _(draw):
    found = draw(hnp.mutually_broadcastable_shapes(signature="(m?,n),(n,p?)->(m?,p?)", max_dims=2, max_side=3))
    return Case(tuple(draw(arrays(s)) for s in found.input_shapes))


@drawn("einsum")
def _(draw):
    subscripts = draw(one_of("i->i", "ij->ji", "ij->i", "ij->", "ij,jk->ik", "bij,bjk->bik", "i,j->ij", "ij,ij->", "bqhd,bkhd->bhqk",
                             "ij,jk,kl->il", "ij,k->i"))
    sides = {c: draw(st.integers(1, 3)) for c in sorted(set(subscripts) - set(",->"))}
    terms = subscripts.split("->")[0].split(",")
    return Case(tuple(draw(arrays([sides[c] for c in term])) for term in terms), {"subscripts": subscripts})


ACTIVATIONS = (None, "relu", "tanh", "sigmoid", "gelu", "silu", "leaky_relu")


@drawn("linear")
def _(draw):
    activation = draw(one_of(*ACTIVATIONS))
    shape, width = draw(shapes(min_dims=1)), draw(st.integers(1, 4))
    kink = activation in ("relu", "leaky_relu")  # then each feature is well above or well below 0
    sign = draw(arrays((width,), away_from=0, low=-1, high=1)) if kink else 1.0
    x, weight = draw(arrays(shape, positive=kink)), sign * draw(arrays((shape[-1], width), positive=kink))
    bias = sign * draw(arrays((width,), positive=kink)) if draw(st.booleans()) else None
    return Case((x, weight, bias), {"activation": activation})


@drawn("embedding")
def _(draw):
    weight = draw(arrays(shapes(min_dims=2, max_dims=2)))
    return Case((weight, draw(hnp.arrays(np.int64, shapes(max_dims=2), elements=st.integers(0, len(weight) - 1)))))


@drawn("embedding_adjoint")
def _(draw):
    symbols = draw(st.integers(1, 4))
    ids = draw(hnp.arrays(np.int64, shapes(max_dims=2), elements=st.integers(0, symbols - 1)))
    return Case((draw(arrays((*ids.shape, draw(st.integers(1, 3))))), ids), {"symbols": symbols})


@drawn("scaled_dot_product_attention")
def _(draw):
    batch, width, features = draw(shapes(max_dims=2, max_side=2)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    causal = draw(st.booleans())
    queries = draw(st.integers(1, 4))
    keys = draw(st.integers(queries if causal else 1, 5))
    kind = draw(one_of("none", "bool", "numbers"))
    shape = draw(one_of((queries, keys), (1, keys), (*batch, queries, keys)))
    mask = None
    if kind == "bool":
        mask = draw(hnp.arrays(bool, shape))  # a query may have nothing to look at
    elif kind == "numbers":
        mask = draw(arrays(shape))
    shared = draw(one_of(batch, batch, batch[1:], (1,) * len(batch)))  # keys and values may be broadcast
    q = draw(arrays((*batch, queries, width)))
    k, v = draw(arrays((*shared, keys, width))), draw(arrays((*shared, keys, features)))
    return Case((q, k, v, mask), {"is_causal": causal, "scale": draw(one_of(None, 0.3))})


@drawn("self_attention")
def _(draw):
    groups, repeats, half, time = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 4))
    heads, width = groups * repeats, 2 * half
    rotation = draw(one_of(None, tuple(f(np.arange(time * half).reshape(time, half)).astype(np.float32) for f in (np.cos, np.sin))))
    packed = draw(arrays((draw(st.integers(1, 2)), time, (heads + 2 * groups) * width)))
    return Case((packed,), {"heads": heads, "key_value_heads": groups, "rotation": rotation, "is_causal": draw(st.booleans())})


# --- norms


def cancelling(entries: int) -> float:
    """The rounding of a norm over so few entries: of two, normalised to -1 and 1, the gradient is what its terms leave when they cancel."""
    return 1e-5 if entries > 4 else 1e-2


@drawn("layer_norm")
def _(draw):
    x = draw(arrays(shapes(min_dims=1)))
    gain, bias = draw(arrays(x.shape[-1:])), draw(arrays(x.shape[-1:]))
    return Case((x, gain if draw(st.booleans()) else None, bias if draw(st.booleans()) else None), {"eps": draw(one_of(1e-5, 0.1))}, cancelling(x.shape[-1]))


@drawn("rms_norm")
def _(draw):
    x = draw(arrays(shapes(min_dims=1)))
    return Case((x, draw(arrays(x.shape[-1:]))), {"eps": draw(one_of(1e-5, 0.1))}, cancelling(x.shape[-1]))


@drawn("batch_norm")
def _(draw):
    x = draw(arrays(shapes(min_dims=2)))
    activation, rows = draw(one_of(None, "relu", "leaky_relu")), x.size // max(1, x.shape[-1])
    gain, bias = draw(arrays(x.shape[-1:])), draw(arrays(x.shape[-1:]))
    if activation is not None:  # |z| is at most sqrt(rows): every channel stays clear of the kink, on one side or the other
        bias = np.where(bias < 0, -1, 1) * (np.abs(gain) * np.sqrt(rows) + 0.25)
    elif draw(st.booleans()):
        gain = bias = None
    return Case((x, gain, bias), {"eps": draw(one_of(1e-5, 0.1)), "activation": activation}, cancelling(rows))


@drawn("group_norm")
def _(draw):
    groups, each = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    x = draw(arrays((*draw(shapes(min_dims=1, max_dims=3, max_side=3)), groups * each)))
    gain, bias = (draw(arrays(x.shape[-1:])) if draw(st.booleans()) else None for _ in range(2))
    settings = {"groups": groups, "eps": draw(one_of(1e-5, 0.1)), "activation": draw(one_of(None, "silu"))}
    return Case((x, gain, bias), settings, cancelling(x.size // max(1, len(x) * groups)))


# --- images: (batch, height, width, channels)

WINOGRAD = 1e-4


def convolution(draw, strided=True):
    """Shapes of x, weight, y and the settings."""
    n, cin, cout = (draw(st.integers(1, 3)) for _ in range(3))
    kernel, stride, padding = ([draw(s), draw(s)] for s in (st.integers(1, 3), st.integers(1, 1 + strided), st.integers(0, 2)))
    groups, dilation = (draw(one_of(1, 1, 2)), draw(one_of((1, 1), (1, 1), (2, 1), (2, 2)))) if strided else (1, (1, 1))
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation)]
    size = [draw(st.integers(max(1, k - 2 * p), 6)) for k, p in zip(extent, padding)]
    out = [(h + 2 * p - k) // s + 1 for h, k, s, p in zip(size, extent, stride, padding)]
    if draw(st.booleans()) and stride[0] == stride[1] and padding[0] == padding[1]:
        settings = {"stride": stride[0], "padding": padding[0]}
    else:
        settings = {"stride": tuple(stride), "padding": tuple(padding)}
    settings = {**settings, "groups": groups, "dilation": dilation} if strided else {"padding": settings["padding"]}
    return (n, *size, cin * groups), (*kernel, cin, cout * groups), (n, *out, cout * groups), settings


@drawn("conv2d")
def _(draw):
    x, w, _, settings = convolution(draw)
    return Case((draw(arrays(x)), draw(arrays(w))), settings, WINOGRAD)


@drawn("conv2d_input")
def _(draw):
    x, w, y, settings = convolution(draw)
    return Case((draw(arrays(y)), draw(arrays(w))), {"shape": x, **settings}, WINOGRAD)


@drawn("conv2d_weight")
def _(draw):
    x, w, y, settings = convolution(draw)
    return Case((draw(arrays(x)), draw(arrays(y))), {"shape": w, **settings}, WINOGRAD)


@drawn("conv_transpose2d")
def _(draw):
    n, cin, cout = (draw(st.integers(1, 3)) for _ in range(3))
    kernel, stride = ([draw(st.integers(1, top)), draw(st.integers(1, top))] for top in (4, 2))
    extra = [draw(st.integers(0, s - 1)) for s in stride]
    size = [draw(st.integers(1, 4)) for _ in range(2)]
    padding = [draw(st.integers(0, min(2, (h - 1) * s + k + e - 1) // 2)) for h, s, k, e in zip(size, stride, kernel, extra)]
    groups = draw(one_of(1, 1, 2))
    settings = {"stride": tuple(stride), "padding": tuple(padding), "output_padding": tuple(extra), "groups": groups, "dilation": draw(one_of(1, 1, 2))}
    bias = draw(arrays((cout * groups,))) if draw(st.booleans()) else None
    return Case((draw(arrays((n, *size, cin * groups))), draw(arrays((*kernel, cin * groups, cout))), bias), settings, WINOGRAD)


def pooling(name):
    def case(draw):
        n, height, width, channels = draw(st.integers(1, 2)), draw(st.integers(2, 5)), draw(st.integers(2, 5)), draw(st.integers(1, 3))
        x = draw(arrays((n, height, width, channels), distinct=name == "max_pool2d"))
        strides = (1, 2, (1, 2)) if name == "windows" else (None, 1, 2, (1, 2))
        settings = {"kernel": draw(one_of(1, 2, (2, 1), (1, 2))), "stride": draw(one_of(*strides))}
        if name == "avg_pool2d":
            settings["count_include_pad"] = draw(st.booleans())
        if name != "windows":
            settings["padding"] = draw(one_of(0, 0, tuple(k // 2 for k in np.broadcast_to(settings["kernel"], 2).tolist())))
        if name != "avg_pool2d" and settings["kernel"] == 2:
            settings["dilation"] = draw(one_of(1, 1, (1, height - 1) if height <= width else 1))
        return Case((x,), settings)
    return case


for _name in ("windows", "max_pool2d", "avg_pool2d"):
    drawn(_name)(pooling(_name))


@drawn("windows_adjoint")
def _(draw):
    n, oh, ow, c, kh, kw = (draw(st.integers(1, 3)) for _ in range(6))
    stride = draw(st.integers(1, 2))
    shape = (n, (oh - 1) * stride + kh + draw(st.integers(0, stride - 1)), (ow - 1) * stride + kw, c)
    return Case((draw(arrays((n, oh, ow, c, kh, kw))),), {"shape": shape, "stride": stride})


@drawn("residual_conv2d")
def _(draw):
    x, w, y, settings = convolution(draw, strided=False)
    bias = draw(arrays(w[3:])) if draw(st.booleans()) else None
    residual = draw(arrays(draw(one_of(y, (y[0], 1, 1, y[3]), y[3:]))))
    return Case((draw(arrays(x)), draw(arrays(w)), bias, residual), settings, WINOGRAD)


@drawn("join_upsampled")
def _(draw):
    x, scale = draw(shapes(min_dims=4, max_dims=4, max_side=2)), draw(st.integers(1, 3))
    skip = (x[0], x[1] * scale, x[2] * scale, draw(st.integers(1, 3)))
    return Case((draw(arrays(x)), draw(arrays(skip))), {"scale": scale})


@drawn("upsample")
def _(draw):
    return Case((draw(arrays(shapes(min_dims=4, max_dims=4, max_side=3))),), {"scale": draw(one_of(1, 2, 3, (2, 3), (1, 2)))})


# --- recurrence

def recurrence(gates, parts=1, bias=False):
    def case(draw):
        batch, time, width = (draw(st.integers(1, 3)) for _ in range(3))
        symbols = draw(st.integers(0, 3))  # 0: the products of every place, else a table of them
        products = (symbols, gates * width) if symbols else (batch, time, gates * width)
        parts_shapes = [products, (batch, parts * width), (width, gates * width)] + [(gates * width,)] * bias
        without = bias and draw(st.integers(0, 3)) == 0
        ids = draw(hnp.arrays(np.int64, (batch, time), elements=st.integers(0, symbols - 1))) if symbols else None
        return Case((*(draw(arrays(s)) if not (without and len(s) == 1) else None for s in parts_shapes), ids))
    return case


drawn("elman")(recurrence(1))
drawn("lstm")(recurrence(4, parts=2))
drawn("gru")(recurrence(3, bias=True))


# --- losses

@drawn("cross_entropy")
def _(draw):
    logits = draw(arrays(shapes(min_dims=1)))
    targets = draw(hnp.arrays(np.int64, logits.shape[:-1], elements=st.integers(0, logits.shape[-1] - 1)))
    ignore = draw(one_of(None, -1, 0))
    if ignore == -1:
        targets = np.where(draw(hnp.arrays(bool, targets.shape)), targets, -1)
    weight = draw(arrays(logits.shape[-1:], positive=True)) if draw(st.integers(0, 2)) == 0 else None
    return Case((logits, targets, weight), {"ignore_index": ignore, "reduction": draw(one_of("mean", "sum", "none")),
                                            "label_smoothing": draw(one_of(0.0, 0.0, 0.1, 1.0))})


@drawn("binary_cross_entropy_with_logits", "mse")
def _(draw):
    shape = draw(shapes())
    return Case((draw(arrays(shape)), draw(arrays(shape, low=0, high=1))), {"reduction": draw(one_of("mean", "sum", "none"))})


def of_shape_or_one_row(draw, shape):
    return draw(arrays(draw(one_of(shape, shape, shape[-1:], (1,) * len(shape)))))


@drawn("bernoulli_log_likelihood", "bernoulli_kl")
def _(draw):
    shape = draw(shapes(min_dims=1))
    return Case((draw(arrays(shape)), of_shape_or_one_row(draw, shape)))


@drawn("gaussian_log_likelihood")
def _(draw):
    shape = draw(shapes(min_dims=1))
    return Case((draw(arrays(shape)), of_shape_or_one_row(draw, shape), of_shape_or_one_row(draw, shape)))


@drawn("gaussian_kl")
def _(draw):
    shape = draw(shapes(min_dims=1))
    prior = (of_shape_or_one_row(draw, shape) if draw(st.booleans()) else None for _ in range(2))
    return Case((draw(arrays(shape)), draw(arrays(shape)), *prior))


# --- large arguments, for whatever has a kernel

def large(names, *shapes, rounding=1e-5, deviation=1.0, **settings):
    """Cases with normal numbers of these shapes; None stands for no argument."""
    for name in names.split():
        def cases(rng, shapes=shapes):
            return Case(tuple(None if s is None else deviation * rng.standard_normal(s) for s in shapes), settings, rounding)
        LARGE.setdefault(name, []).append(cases)


large("exp sin cos tanh sigmoid softplus erf silu gelu relu leaky_relu negative abs identity", (67, 129))
large("gelu", (67, 129), approximate="tanh")
large("add subtract multiply maximum minimum", (67, 129), (129,))
large("add multiply", (331, 517), (331, 517))
large("add multiply", (5, 1, 1, 48), (5, 27, 31, 48))
large("add multiply", (331, 517), (331, 1))
large("add multiply", (5, 1, 31, 48), (1, 27, 1, 48))
large("sum", (5, 27, 31, 48), axis=(0, 1, 2))
large("sum", (5, 27, 31, 48), axis=(-3, 2), keepdims=True)
large("sum", (5, 27, 31, 48), axis=(0, 2))
large("sum_to", (5, 27, 31, 48), shape=(48,))
large("sum_to", (5, 27, 31, 48), shape=(5, 1, 1, 48))
large("sum_to", (5, 27, 31, 48), shape=(27, 1, 48))
large("dropout", (67, 129), p=0.3, seed=5)
large("softmax log_softmax sum mean var max min logsumexp", (131, 67), axis=-1)
large("softmax log_softmax sum mean var max min logsumexp", (131, 67), axis=0)
large("sum mean", (1031,))
large("softmax", (5, 2053))
large("layer_norm", (1031, 67), (67,), (67,))
large("layer_norm", (3, 5, 257), (257,), None)
large("rms_norm", (1031, 67), (67,))
large("batch_norm", (1031, 17), (17,), (17,))
large("batch_norm", (7, 9, 11, 33), (33,), (33,), activation="leaky_relu")
large("group_norm", (5, 9, 7, 48), (48,), (48,), groups=8)
large("group_norm", (5, 9, 7, 48), (48,), (48,), groups=3, activation="silu")
large("matmul", (131, 67), (67, 35))
for _shapes in (((67,), (67,)), ((67,), (67, 35)), ((67,), (3, 67, 35)), ((131, 67), (67,)), ((3, 33, 67), (67,))):  # vectors, on either side
    large("matmul", *_shapes)
for _name, _shapes in (("softmax", [(2053,)]), ("layer_norm", [(257,), (257,), (257,)]), ("rms_norm", [(257,), (257,)]), ("linear", [(67,), (67, 35), (35,)])):
    large(_name, *_shapes)  # one row is no row of many
large("matmul", (3, 5, 33, 67), (3, 5, 67, 17))
for _activation in ACTIVATIONS:
    large("linear", (133, 19), (19, 35), (35,), activation=_activation)
large("linear", (261, 67), (67, 131), (131,), activation="silu")
large("linear", (3, 71, 35), (35, 300), None)
large("scaled_dot_product_attention", (1, 3, 131, 16), (1, 3, 131, 16), (1, 3, 131, 16), None, is_causal=True)
large("scaled_dot_product_attention", (2, 1, 67, 24), (2, 1, 293, 24), (2, 1, 293, 40), None)
large("scaled_dot_product_attention", (1, 3, 67, 16), (1, 3, 131, 16), (1, 3, 131, 16), (67, 131), is_causal=True)
_TURN = tuple(f(np.arange(131 * 8).reshape(131, 8)).astype(np.float32) for f in (np.cos, np.sin))
large("self_attention", (1, 131, 9 * 16), heads=3, key_value_heads=3, rotation=_TURN)
large("self_attention", (1, 131, 8 * 16), heads=4, key_value_heads=2, rotation=_TURN)
large("self_attention", (1, 131, 9 * 16), heads=3, key_value_heads=3, rotation=None)
large("self_attention", (1, 131, 9 * 16), heads=3, key_value_heads=3, rotation=None, is_causal=False)
large("conv2d", (3, 17, 15, 19), (3, 3, 19, 33), rounding=WINOGRAD, padding=1)
large("conv2d", (1, 16, 16, 64), (3, 3, 64, 32), rounding=WINOGRAD, padding=1)
large("conv2d", (2, 15, 17, 5), (4, 4, 5, 9), rounding=WINOGRAD, stride=2, padding=1)
large("conv2d", (2, 9, 9, 33), (1, 1, 33, 17), rounding=WINOGRAD)
large("conv2d", (3, 28, 28, 16), (4, 4, 16, 32), rounding=WINOGRAD, stride=2, padding=1)  # whole tiles of the strided transform
large("conv2d", (3, 7, 7, 16), (7, 7, 16, 33), rounding=WINOGRAD)  # the kernel covers the image
large("conv2d_input", (3, 14, 14, 32), (4, 4, 16, 32), rounding=WINOGRAD, shape=(3, 28, 28, 16), stride=2, padding=1)
large("conv2d_weight", (3, 28, 28, 16), (3, 14, 14, 32), rounding=WINOGRAD, shape=(4, 4, 16, 32), stride=2, padding=1)
large("conv2d_input", (3, 17, 15, 19), (3, 3, 33, 19), rounding=WINOGRAD, shape=(3, 17, 15, 33), padding=1)
large("conv2d_weight", (3, 17, 15, 19), (3, 17, 15, 33), rounding=WINOGRAD, shape=(3, 3, 19, 33), padding=1)
large("conv_transpose2d", (3, 7, 9, 33), (4, 4, 33, 17), rounding=WINOGRAD, stride=2, padding=1)
large("max_pool2d avg_pool2d", (3, 18, 14, 19), kernel=2)
large("max_pool2d avg_pool2d", (3, 18, 14, 19), kernel=3, stride=2)
large("upsample", (3, 9, 7, 19), scale=2)
large("residual_conv2d", (3, 17, 15, 19), (3, 3, 19, 33), (33,), (3, 17, 15, 33), rounding=WINOGRAD, padding=1)
large("residual_conv2d", (3, 17, 15, 19), (3, 3, 19, 33), (33,), (3, 1, 1, 33), rounding=WINOGRAD, padding=1)
large("residual_conv2d", (3, 17, 15, 19), (3, 3, 19, 33), None, (3, 17, 15, 33), rounding=WINOGRAD, padding=1)
large("residual_conv2d", (3, 9, 9, 5), (1, 1, 5, 7), (7,), (9, 7), rounding=WINOGRAD)
large("join_upsampled", (3, 9, 7, 19), (3, 18, 14, 33))
large("join_upsampled", (2, 3, 5, 8), (2, 9, 15, 1), scale=3)
large("elman", (19, 23, 33), (19, 33), (33, 33), deviation=0.15)  # with more, gradients grow at each step, and so does rounding
large("lstm", (19, 23, 4 * 33), (19, 2 * 33), (33, 4 * 33), deviation=0.15)
large("gru", (19, 23, 3 * 33), (19, 33), (33, 3 * 33), (3 * 33,), deviation=0.15)
for _shape in ((1, 1), (1, 3), (2, 1)):  # too few products to pack the weight for
    large("elman", (*_shape, 33), (_shape[0], 33), (33, 33), deviation=0.15)
    large("lstm", (*_shape, 4 * 33), (_shape[0], 2 * 33), (33, 4 * 33), deviation=0.15)
    large("gru", (*_shape, 3 * 33), (_shape[0], 33), (33, 3 * 33), (3 * 33,), deviation=0.15)
large("binary_cross_entropy_with_logits mse", (131, 67), (131, 67))
large("binary_cross_entropy_with_logits mse", (131, 67), (131, 67), reduction="none")
large("bernoulli_log_likelihood bernoulli_kl gaussian_kl", (131, 67), (131, 67))
large("gaussian_log_likelihood", (131, 67), (131, 67), (131, 67))
large("gaussian_kl", (131, 67), (131, 67), (131, 67), (131, 67))


def _with_integers(name, shape, n, **settings):
    LARGE.setdefault(name, []).append(lambda rng: Case((rng.standard_normal((n, 35)), rng.integers(0, n, shape)), settings))


_with_integers("embedding", (7, 301), 67)
for _name, _gates, _parts, _biases in (("elman", 1, 1, 0), ("lstm", 4, 2, 0), ("gru", 3, 1, 1)):  # the products of 7 symbols, for each place
    LARGE[_name].append(lambda rng, gates=_gates, parts=_parts, biases=_biases: Case((
        *(0.15 * rng.standard_normal(s) for s in ((7, gates * 33), (19, parts * 33), (33, gates * 33), *[(gates * 33,)] * biases)),
        rng.integers(0, 7, (19, 23)))))
LARGE["embedding_adjoint"] = [lambda rng: Case((rng.standard_normal((7, 301, 35)), rng.integers(0, 67, (7, 301))), {"symbols": 67})]
for _settings in ({}, {"ignore_index": 3}, {"reduction": "none"}, {"reduction": "sum"}):
    LARGE.setdefault("cross_entropy", []).append(
        lambda rng, settings=_settings: Case((rng.standard_normal((7, 61, 131)), rng.integers(0, 131, (7, 61))), settings))


# --- extremes: what isn't to overflow, underflow or divide by zero

FAR = np.array([0.0, 1e-30, -1e-30, 1.0, -1.0, 88.0, -88.0, 100.0, -100.0, 1e4, -1e4])
FARTHER = np.append(FAR, [1e30, -1e30])
ROWS = np.array([[1e4, -1e4, 0.0], [1e30, 0.0, -1e30], [-1e30, -1e30, -1e30], [100.0, 100.0, -100.0], [0.0, 0.0, 0.0]])
SAME = np.array([[0.0, 0.0, 0.0], [3.0, 3.0, 3.0], [100.0, 100.0, 100.0]])  # no variance at all
GAIN = np.array([1.0, -2.0, 0.5])


def extreme(names, *arguments, **settings):
    for name in names.split():
        EXTREMES.setdefault(name, []).append(Case(arguments, settings, 1e-4))  # of sums with terms of 1e4 in them


extreme("identity negative abs sign relu leaky_relu tanh sigmoid softplus erf silu", FARTHER)
extreme("gelu", FAR)
extreme("gelu", FAR, approximate="tanh")
extreme("maximum minimum", FARTHER, FARTHER[::-1].copy())
extreme("maximum minimum", FARTHER, FARTHER.copy())
extreme("softmax log_softmax logsumexp max min", ROWS, axis=-1)
extreme("sum mean", ROWS, axis=0)
extreme("var", SAME, axis=-1)
extreme("layer_norm", SAME, GAIN, GAIN)
extreme("batch_norm", SAME.T.copy(), GAIN, GAIN)
extreme("rms_norm", SAME, GAIN)
extreme("group_norm", SAME, GAIN, GAIN, groups=1)
extreme("cross_entropy", ROWS, np.array([0, 1, 2, 1, 2]))
extreme("cross_entropy", ROWS, np.array([-1, -1, -1, -1, -1]), ignore_index=-1)  # nothing but padding
extreme("binary_cross_entropy_with_logits", FAR, np.clip(FAR, 0, 1))
extreme("binary_cross_entropy_with_logits", FAR, np.clip(-FAR, 0, 1))
extreme("bernoulli_log_likelihood", np.clip(FAR, 0, 1), -FAR)
extreme("bernoulli_kl", FAR, -FAR)
extreme("gaussian_kl", np.array([1e4, 0.0]), np.array([-100.0, 80.0]))
extreme("gaussian_log_likelihood", np.array([1.0, 0.0]), np.array([1.0, 1.0]), np.array([-80.0, 80.0]))
extreme("scaled_dot_product_attention", ROWS[:2] * 1e-26, ROWS[:3] * 1e-26, ROWS[:3] * 1e-26, None)
extreme("elman", FAR.reshape(1, 11, 1), np.ones((1, 1)), np.full((1, 1), 100.0))
extreme("lstm", np.repeat(FAR.reshape(1, 11, 1), 4, axis=2), np.ones((1, 2)), np.full((1, 4), 100.0))
extreme("gru", np.repeat(FAR.reshape(1, 11, 1), 3, axis=2), np.ones((1, 1)), np.full((1, 3), 100.0), np.full(3, -100.0))


# --- weights of 4 and 8 bits

def blocks(rng, kind, outputs, inputs):
    """Random weights of about 0.1, as a file's blocks and then side by side."""
    n = inputs // quantised.BLOCK
    scales = (0.02 * rng.random((outputs, n, 1)) * (15 / 127 if kind == "Q8_0" else 1)).astype(np.float16)
    heads = [scales, (-0.15 * rng.random((outputs, n, 1))).astype(np.float16)][: quantised.HEAD[kind]]
    numbers = rng.integers(0, 256, (outputs, n, 32 if kind == "Q8_0" else 16), np.uint8)
    raw = np.concatenate([*(h.view(np.uint8) for h in heads), numbers], axis=2).reshape(outputs, -1)
    return quantised.side_by_side(raw, kind)


@drawn("dequantise")
def _(draw):
    kind, outputs = draw(one_of(*quantised.BYTES)), draw(st.integers(1, 20))
    return Case((blocks(np.random.default_rng(draw(st.integers(0, 9))), kind, outputs, 32 * draw(st.integers(1, 2))),), {"kind": kind, "outputs": outputs})


@drawn("quantised_linear")
def _(draw):
    kind, outputs, inputs = draw(one_of(*quantised.BYTES)), draw(st.integers(1, 20)), 32 * draw(st.integers(1, 2))
    x = draw(arrays(shapes(min_dims=0, max_dims=2).map(lambda s: (*s, inputs))))
    return Case((x, blocks(np.random.default_rng(draw(st.integers(0, 9))), kind, outputs, inputs)), {"kind": kind, "outputs": outputs})


@drawn("quantised_embedding")
def _(draw):
    kind, outputs = draw(one_of(*quantised.BYTES)), draw(st.integers(1, 20))
    ids = draw(hnp.arrays(np.int64, shapes(min_dims=0, max_dims=2), elements=st.integers(0, outputs - 1)))
    return Case((blocks(np.random.default_rng(draw(st.integers(0, 9))), kind, outputs, 32), ids), {"kind": kind, "outputs": outputs})


LARGE["quantised_linear"] = [
    lambda rng, kind=kind, rows=rows, outputs=outputs, inputs=inputs: Case(
        (rng.standard_normal((rows, inputs)), blocks(rng, kind, outputs, inputs)), {"kind": kind, "outputs": outputs})
    for kind in quantised.BYTES for rows, outputs, inputs in ((1, 300, 96), (5, 17, 576), (6, 1000, 224), (7, 523, 96), (70, 300, 160))]
