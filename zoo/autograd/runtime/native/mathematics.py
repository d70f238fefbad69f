"""What a kernel may call: BLAS, float32 mathematics that vectorises, random numbers without a state.

Importing this file imports Numba and SciPy (about half a second), so only `runtime` does, when the first kernel runs; everybody
else takes these names from `runtime`. The functions here are compiled without `reassoc`: range reductions and the shifts by a
large constant below rely on the order of the operations.
"""

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import njit, prange, types  # noqa: F401  (kernels take prange from here, like the rest)
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic

f32, i32, u32, u64 = np.float32, np.int32, np.uint32, np.uint64
_inner = njit(fastmath={"contract", "arcp", "nsz"}, error_model="numpy", nogil=True)


# --- BLAS ------------------------------------------------------------------------------------------------------------------

# Numba can't cache a kernel that holds a pointer, but it can cache one that calls a name, and the linker finds the name.
llvmlite.binding.add_symbol("zoo_sgemm", get_cython_function_address("scipy.linalg.cython_blas", "sgemm"))


@intrinsic
def address(typing_context, array):
    """Where an array's first element lies, as an integer.

    Numba frees an array after the last statement that names it: a scratch array known only by its address needs `keep_alive` behind
    its last use.
    """

    def generate(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, ir.IntType(types.intp.bitwidth))

    return types.intp(array), generate


@intrinsic
def keep_alive(typing_context, array):
    """Nothing, but it names the array: up to here its memory stays its own."""
    return types.void(array), lambda context, builder, signature, args: context.get_dummy_value()


@intrinsic
def copy_floats(typing_context, target, source, count):
    """Copy `count` float32 from one address to another."""

    def generate(context, builder, signature, args):
        target, source, count = args
        pointer = ir.IntType(8).as_pointer()
        cgutils.raw_memcpy(builder, builder.inttoptr(target, pointer), builder.inttoptr(source, pointer), count, 4)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate


@intrinsic
def clear_floats(typing_context, target, count):
    """Set `count` float32 from an address on to 0."""

    def generate(context, builder, signature, args):
        target, count = args
        size = builder.mul(count, ir.Constant(count.type, 4))
        cgutils.memset(builder, builder.inttoptr(target, ir.IntType(8).as_pointer()), size, 0)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


@intrinsic
def _sgemm(typing_context, transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    flag, size, real, place = types.boolean, types.int32, types.float32, types.intp
    signature = types.void(flag, flag, size, size, size, real, place, size, place, size, real, place, size)

    def generate(context, builder, signature, args):
        byte = ir.IntType(8)

        def by_address(value):
            slot = cgutils.alloca_once_value(builder, value)
            return builder.bitcast(slot, byte.as_pointer())

        def letter(flag):
            truth = builder.icmp_unsigned("!=", flag, ir.Constant(flag.type, 0))
            return by_address(builder.select(truth, ir.Constant(byte, ord("T")), ir.Constant(byte, ord("N"))))

        def pointer(place):
            return builder.inttoptr(place, byte.as_pointer())

        ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc = args
        m, n, k, alpha, lda, ldb, beta, ldc = map(by_address, (m, n, k, alpha, lda, ldb, beta, ldc))
        blas_type = ir.FunctionType(ir.VoidType(), [byte.as_pointer()] * 13)
        blas = cgutils.get_or_insert_function(builder.module, blas_type, "zoo_sgemm")
        # BLAS is column-major: seen so, our arrays are transposed, and C^T = B^T A^T.
        builder.call(blas, [letter(tb), letter(ta), n, m, k, alpha, pointer(b), ldb, pointer(a), lda, beta, pointer(c), ldc])
        return context.get_dummy_value()

    return signature, generate


@_inner
def gemm(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    """C = alpha op(A) op(B) + beta C for row-major float32 matrices given by address, on the calling thread.

    op(A) is (m, k), op(B) (k, n), C (m, n); lda, ldb, ldc are the lengths of a stored row, so that a block of a larger matrix
    serves as well as a whole one. With beta = 0, C may hold anything, NaN too.
    """
    _sgemm(transpose_a, transpose_b, i32(m), i32(n), i32(k), f32(alpha), a, i32(lda), b, i32(ldb), f32(beta), c, i32(ldc))


@_inner
def matmul(a, b, c, beta):
    """c = a b + beta c for C-contiguous a (m, k), b (k, n), c (m, n)."""
    m, k = a.shape
    n = b.shape[1]
    gemm(False, False, m, n, k, f32(1), address(a), k, address(b), n, beta, address(c), n)


@_inner
def matmul_transposed_a(a, b, c, beta):
    """c = a^T b + beta c for C-contiguous a (k, m), b (k, n), c (m, n): the shape of a weight's gradient."""
    k, m = a.shape
    n = b.shape[1]
    gemm(True, False, m, n, k, f32(1), address(a), m, address(b), n, beta, address(c), n)


@_inner
def matmul_transposed_b(a, b, c, beta):
    """c = a b^T + beta c for C-contiguous a (m, k), b (n, k), c (m, n): the shape of an input's gradient."""
    m, k = a.shape
    n = b.shape[0]
    gemm(False, True, m, n, k, f32(1), address(a), k, address(b), k, beta, address(c), n)


# --- float32 mathematics (LLVM leaves math.exp a scalar call, several times slower) ------------------------------------------


@intrinsic
def _float_bits(typing_context, x):
    return types.uint32(types.float32), lambda context, builder, signature, args: builder.bitcast(args[0], ir.IntType(32))


@intrinsic
def _bits_float(typing_context, x):
    return types.float32(types.uint32), lambda context, builder, signature, args: builder.bitcast(args[0], ir.FloatType())


@_inner
def _clamp(x, low, high):
    """x held between low and high. NaN stays NaN, which min and max would not promise."""
    if x < low:
        return low
    if x > high:
        return high
    return x


@_inner
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


@_inner
def _power_of_two(n):
    """2^n for n from -126 to 127; infinity for 128."""
    return _bits_float(u32(i32(n + i32(127)) << i32(23)))


@_inner
def expf(x):
    """e^x in float32, about 1 ulp; 0 below the smallest normal number, inf above the largest, NaN for NaN."""
    p, n = _exponential(_clamp(x, f32(-87.336), f32(89)))
    half = i32(n >> i32(1))                             # 2^n as two factors: n may be 128, which no float32 exponent holds
    p = p * _power_of_two(half) * _power_of_two(i32(n - half))
    return f32(0) if x < f32(-87.336) else p


@_inner
def sigmoidf(x):
    """1 / (1 + e^-x) in float32; n is 128 at most, and 2^128, infinity, is right here: so it costs less than in `expf`."""
    p, n = _exponential(_clamp(-x, f32(-87), f32(89)))
    return f32(1) / (f32(1) + p * _power_of_two(n))


@_inner
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


@_inner
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


@_inner
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


# --- random numbers ----------------------------------------------------------------------------------------------------------


@_inner
def _mix(x):
    """A permutation of the 32-bit integers in which every bit changes about half of all bits (Wellons 2018, lowbias32)."""
    x = u32(x ^ u32(x >> u32(16)))
    x = u32(x * u32(0x7FEB352D))
    x = u32(x ^ u32(x >> u32(15)))
    x = u32(x * u32(0x846CA68B))
    return u32(x ^ u32(x >> u32(16)))


@_inner
def random_bits(seed, index):
    """32 random bits, a function of (seed, index) alone: the same whichever thread asks, and in whatever order."""
    key = u64(seed) + u64(0x9E3779B97F4A7C15)            # splitmix64 (Steele et al. 2014) sets neighbouring seeds apart
    key = (key ^ (key >> u64(30))) * u64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> u64(27))) * u64(0x94D049BB133111EB)
    key = key ^ (key >> u64(31))
    where = u64(index)
    low = _mix(u32(u32(where) ^ u32(key)))
    return _mix(u32(low + u32(key >> u64(32)) + u32(u32(where >> u64(32)) * u32(0x9E3779B9))))


@_inner
def uniform(seed, index):
    """A float32 in [0, 1), a function of (seed, index) alone."""
    return f32(i32(random_bits(seed, index) >> u32(8))) * f32(5.9604644775390625e-08)
