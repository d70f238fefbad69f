"""What a kernel may call: BLAS, mathematics, random numbers, memory, registers, and how threads wait for each other.

The modules beside this one import Numba and SciPy, half a second's work.  So kernels take the names from here, and each module is imported
when the first kernel that uses it is built.
"""

from ..compiling import Native


def _names(module, *names):
    return (Native(name, f"{__name__}.{module}") for name in names)


# call_pool, call_task and the arguments are for `tasks` alone, call_on_row for activations, call_product for `kernels.products`.
call_pool, call_task, call_on_row, call_product, integer_argument, real_argument = _names(
    "calls", "call_pool", "call_task", "call_on_row", "call_product", "integer_argument", "real_argument")
address, keep_alive, copy_floats, clear_floats = _names("memory", "address", "keep_alive", "copy_floats", "clear_floats")
floats, reals, integers, booleans = _names("memory", "floats", "reals", "integers", "booleans")
gemm, matmul, matmul_transposed_a, matmul_transposed_b = _names("blas", "gemm", "matmul", "matmul_transposed_a", "matmul_transposed_b")
expf, exp_falling, tanhf, sigmoidf, logf, erff, minus_in_order = _names(
    "mathematics", "expf", "exp_falling", "tanhf", "sigmoidf", "logf", "erff", "minus_in_order")
(exp,) = _names("mathematics", "exp")
random_bits, uniform = _names("random", "random_bits", "uniform")
# A register holds WIDTH floats, a tile of sums ROWS x COLUMNS; `tiles` says what the two products of tiles compute.
WIDTH, ROWS, COLUMNS, tile_of_rows, tile_of_columns = _names("vectors", "WIDTH", "ROWS", "COLUMNS", "tile_of_rows", "tile_of_columns")
row_times_rows, add_row_times_matrix, row_times_narrow_matrix = _names(
    "row_vectors", "row_times_rows", "add_row_times_matrix", "row_times_narrow_matrix")
count_arrival, publish, look, wait_until = _names("team", "count_arrival", "publish", "look", "wait_until")
BFLOAT16_ROWS, BFLOAT16_COLUMNS = 6, 64  # of a tile: 24 of 32 registers hold sums, four a row of the right factor, one a word of the left
HAS_BFLOAT16, tile_of_pairs = _names("bfloat16", "HAS_BFLOAT16", "tile_of_pairs")
# A tile of a float32 product: PRODUCT_ROWS x PRODUCT_COLUMNS sums.
PRODUCT_ROWS, PRODUCT_COLUMNS, tile_of_product, turn_square = _names(
    "products", "PRODUCT_ROWS", "PRODUCT_COLUMNS", "tile_of_product", "turn_square")
