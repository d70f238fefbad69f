"""Matrix products inside kernels: SciPy's BLAS, on the thread that calls it."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .decorators import in_order, intrinsic
from .memory import address

f32, i32 = np.float32, np.int32

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
        blas = cgutils.get_or_insert_function(builder.module, blas_type, "zoo_sgemm")  # which `linking` defines
        # BLAS is column-major: seen so, our arrays are transposed, and C^T = B^T A^T.
        builder.call(blas, [letter(tb), letter(ta), n, m, k, alpha, pointer(b), ldb, pointer(a), lda, beta, pointer(c), ldc])
        return context.get_dummy_value()

    return signature, generate


@in_order
def gemm(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    """C = alpha op(A) op(B) + beta C for row-major float32 matrices given by address, on the calling thread.

    op(A) is (m, k), op(B) (k, n), C (m, n); lda, ldb, ldc are the lengths of a stored row, so that a block of a larger matrix
    serves as well as a whole one. With beta = 0, C may hold anything, NaN too.
    """
    _sgemm(transpose_a, transpose_b, i32(m), i32(n), i32(k), f32(alpha), a, i32(lda), b, i32(ldb), f32(beta), c, i32(ldc))


@in_order
def matmul(a, b, c, beta):
    """c = a b + beta c for C-contiguous a (m, k), b (k, n), c (m, n)."""
    m, k = a.shape
    n = b.shape[1]
    gemm(False, False, m, n, k, f32(1), address(a), k, address(b), n, beta, address(c), n)


@in_order
def matmul_transposed_a(a, b, c, beta):
    """c = a^T b + beta c for C-contiguous a (k, m), b (k, n), c (m, n): the shape of a weight's gradient."""
    k, m = a.shape
    n = b.shape[1]
    gemm(True, False, m, n, k, f32(1), address(a), m, address(b), n, beta, address(c), n)


@in_order
def matmul_transposed_b(a, b, c, beta):
    """c = a b^T + beta c for C-contiguous a (m, k), b (n, k), c (m, n): the shape of an input's gradient."""
    m, k = a.shape
    n = b.shape[0]
    gemm(False, True, m, n, k, f32(1), address(a), k, address(b), k, beta, address(c), n)
