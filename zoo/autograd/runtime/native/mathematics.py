"""Mathematics that vectorises, in float32 but for `exp`: LLVM leaves math.exp a scalar call, which is several times slower."""

import numpy as np
from llvmlite import ir
from numba import types

from .decorators import in_order, intrinsic

f32, i32, u32, u64 = np.float32, np.int32, np.uint32, np.uint64


@intrinsic
def _float_bits(typing_context, x):
    return types.uint32(types.float32), lambda context, builder, signature, args: builder.bitcast(args[0], ir.IntType(32))


@intrinsic
def _bits_float(typing_context, x):
    return types.float32(types.uint32), lambda context, builder, signature, args: builder.bitcast(args[0], ir.FloatType())


@intrinsic
def _double_bits(typing_context, x):
    return types.uint64(types.float64), lambda context, builder, signature, args: builder.bitcast(args[0], ir.IntType(64))


@intrinsic
def _bits_double(typing_context, x):
    return types.float64(types.uint64), lambda context, builder, signature, args: builder.bitcast(args[0], ir.DoubleType())


@in_order
def _clamp(x, low, high):
    """x held between low and high. NaN stays NaN, which min and max would not promise."""
    if x < low:
        return low
    if x > high:
        return high
    return x


@in_order
def _exponential(y):
    """e^y = p 2^n, about 1 ulp: p in float32, n in int32 (Cephes' polynomial)."""
    shifted = y * f32(1.44269504) + f32(12582912)       # adding 1.5 * 2^23 rounds to an integer, which the low bits then hold
    n = shifted - f32(12582912)
    r = y - n * f32(0.693359375)
    r = r - n * f32(-2.12194440e-4)
    p = f32(1.9875691500e-4)
    p = p * r + f32(1.3981999507e-3)
    p = p * r + f32(8.3334519073e-3)
    p = p * r + f32(4.1665795894e-2)
    p = p * r + f32(1.6666665459e-1)
    p = p * r + f32(5.0000001201e-1)
    p = p * (r * r) + r + f32(1)
    return p, i32(i32(i32(_float_bits(shifted)) << i32(23)) >> i32(23))


@in_order
def _power_of_two(n):
    """2^n for n from -126 to 127; infinity for 128."""
    return _bits_float(u32(i32(n + i32(127)) << i32(23)))


@in_order
def expf(x):
    """e^x in float32, about 1 ulp; 0 below the smallest normal number, inf above the largest, NaN for NaN."""
    p, n = _exponential(_clamp(x, f32(-87.336), f32(89)))
    half = i32(n >> i32(1))                             # 2^n as two factors: n may be 128, which no float32 exponent holds
    p = p * _power_of_two(half) * _power_of_two(i32(n - half))
    return f32(0) if x < f32(-87.336) else p


@in_order
def exp_falling(x):
    """e^x in float32 for x of at most 0, as softmax has it: the same values as `expf`, and a fifth less work."""
    p, n = _exponential(f32(-87.336) if x < f32(-87.336) else x)
    return f32(0) if x < f32(-87.336) else p * _power_of_two(n)


@in_order
def _double_power_of_two(n):
    """2^n for whole numbers n from -1022 to 1023, in float64."""
    return _bits_double((_double_bits(n + 6755399441055744.0) + u64(1023)) << u64(52))      # as in `_exponential`: 1.5 * 2^52


@in_order
def exp(x):
    """e^x in float64 for x up to 700, about 1 ulp; 0 where that is less than the smallest subnormal number."""
    y = _clamp(x, -746.0, 700.0)
    n = (y * 1.4426950408889634 + 6755399441055744.0) - 6755399441055744.0
    r = y - n * 0.693147180369123816490     # ln 2 in two parts, the first with so few bits that n times it is exact (fdlibm)
    r = r - n * 1.90821492927058770002e-10
    s = r * r                               # Taylor's series to r^13 / 13!, whose next term is below 5e-18: in pairs, so that few terms wait
    low = (0.5 + r * 0.16666666666666666) + s * (0.041666666666666664 + r * 0.008333333333333333)
    middle = (0.001388888888888889 + r * 0.0001984126984126984) + s * (2.48015873015873e-05 + r * 2.7557319223985893e-06)
    high = (2.755731922398589e-07 + r * 2.505210838544172e-08) + s * (2.08767569878681e-09 + r * 1.6059043836821613e-10)
    p = 1.0 + (r + s * (low + (s * s) * (middle + (s * s) * high)))
    half = (n * 0.5 + 6755399441055744.0) - 6755399441055744.0
    return p * _double_power_of_two(half) * _double_power_of_two(n - half)


@in_order
def sigmoidf(x):
    """1 / (1 + e^-x) in float32; n is 128 at most, and 2^128, infinity, is right here: so it costs less than in `expf`."""
    p, n = _exponential(_clamp(-x, f32(-87), f32(89)))
    return f32(1) / (f32(1) + p * _power_of_two(n))


@in_order
def tanhf(x):
    """tanh(x) in float32, about 1 ulp: a polynomial below 0.625, 1 - 2 / (e^2x + 1) above (Cephes)."""
    t = abs(x)
    s = x * x
    near = f32(-5.70498872745e-3)
    near = near * s + f32(2.06390887954e-2)
    near = near * s + f32(-5.37397155531e-2)
    near = near * s + f32(1.33314422036e-1)
    near = near * s + f32(-3.33332819422e-1)
    near = near * s * x + x
    far = f32(1) - f32(2) / (expf(t + t) + f32(1))
    far = -far if x < f32(0) else far
    return near if t < f32(0.625) else far


@in_order
def logf(x):
    """ln(x) in float32, about 1 ulp; -inf at 0, NaN below, inf at inf (Cephes' polynomial)."""
    tiny = x < f32(1.17549435e-38)
    y = x * f32(8388608) if tiny else x                  # 2^23 lifts a subnormal number into the normal ones
    bits = i32(_float_bits(y))
    e = i32(i32(bits - i32(0x3F3504F3)) >> i32(23))      # so that the mantissa lies in [sqrt(1/2), sqrt(2))
    r = _bits_float(u32(i32(bits - i32(e << i32(23))))) - f32(1)
    n = f32(e) - (f32(23) if tiny else f32(0))
    p = f32(7.0376836292e-2)
    p = p * r + f32(-1.1514610310e-1)
    p = p * r + f32(1.1676998740e-1)
    p = p * r + f32(-1.2420140846e-1)
    p = p * r + f32(1.4249322787e-1)
    p = p * r + f32(-1.6668057665e-1)
    p = p * r + f32(2.0000714765e-1)
    p = p * r + f32(-2.4999993993e-1)
    p = p * r + f32(3.3333331174e-1)
    s = r * r
    y = p * s * r + n * f32(-2.12194440e-4) - f32(0.5) * s
    y = (r + y) + n * f32(0.693359375)
    y = f32(-np.inf) if x == f32(0) else y
    y = y if x >= f32(0) else f32(np.nan)
    return x if x == f32(np.inf) else y


@in_order
def erff(x):
    """erf(x) in float32, about 1 ulp: a polynomial below 0.93, 1 - e^(polynomial) above (after N. Juffa)."""
    t = abs(x)
    s = x * x
    near = f32(-5.96761703e-4)
    near = near * s + f32(4.99119423e-3)
    near = near * s + f32(-2.67681349e-2)
    near = near * s + f32(1.12819925e-1)
    near = near * s + f32(-3.76125336e-1)
    near = near * s + f32(1.28379166e-1)
    near = near * x + x
    t = _clamp(t, f32(0), f32(4))
    far = f32(-1.72853470e-5) * t + f32(3.83197126e-4)
    far = far * t + f32(-3.88396438e-3)
    far = far * t + f32(2.42546219e-2)
    far = far * t + f32(-1.06777877e-1)
    far = far * t + f32(-6.34846687e-1)
    far = far * t + f32(-1.28717512e-1)
    far = f32(1) - expf(far * t - t)
    far = -far if x < f32(0) else far
    return far if t > f32(0.927734375) else near


@in_order
def minus_in_order(a, b, c):
    """(a - b) - c and not a - (b + c), where a large b would swallow c."""
    return (a - b) - c
