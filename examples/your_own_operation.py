"""Two operations of your own, a primitive and a fused one, each with its property test in three lines.

    python examples/your_own_operation.py           runs the tests and prints their results
    pytest examples/your_own_operation.py           the same, as part of a test suite
"""

import numpy as np

from zoo.autograd import Tensor, exp, fused, grad, primitive, where
from zoo.autograd.checking import arrays, broadcastable, check_operation

try:
    from hypothesis import given, settings
except ImportError:
    raise SystemExit("your_own_operation.py: its tests need Hypothesis (pip install 'numpy-zoo[test]')") from None

# --- a primitive: NumPy inside, and a rule for each argument


@primitive
def hypotenuse(a, b):
    """y = sqrt(a^2 + b^2)"""
    return np.hypot(a, b)


hypotenuse.derivatives(
    lambda g, y, a, _b: g * a / y,      # dy/da = a / y
    lambda g, y, _a, b: g * b / y,      # dy/db = b / y
)


# --- a fused operation: written in operations, so it needs no rule


@fused
def elu(x, *, alpha=1.0):
    """y = x where x > 0, else alpha (e^x - 1) (Clevert et al. 2016)"""
    return where(x > 0, x, alpha * (exp(where(x > 0, 0.0, x)) - 1))     # the inner where keeps e^x from overflowing


# --- every law of an operation, on cases that Hypothesis draws


@given(broadcastable(2, away_from=0))                   # two arrays whose shapes broadcast; at 0, 0 there's a kink
def test_hypotenuse(case):
    check_operation(hypotenuse, *case)


@given(arrays(away_from=0))
def test_elu(x):
    check_operation(elu, x, alpha=0.5)


# --- and what the tests catch: the same operation with a derivative that is wrong by a tenth of a percent


@primitive
def careless_hypotenuse(a, b):
    return np.hypot(a, b)


careless_hypotenuse.derivatives(lambda g, y, a, _b: 1.001 * g * a / y, lambda g, y, _a, b: g * b / y)


if __name__ == "__main__":
    a, b = Tensor(3.0, requires_grad=True), Tensor(4.0, requires_grad=True)
    y = hypotenuse(a, b)
    da = grad(y, a, create_graph=True)
    print(f"hypotenuse(3, 4) = {y.item():.4f}, its derivative in a = {da.item():.4f}, and once more = {grad(da, a).item():.4f}")
    print(f"by hand: 5, 3 / 5 = {3 / 5:.4f}, 4^2 / 5^3 = {4**2 / 5**3:.4f}")

    for test in (test_hypotenuse, test_elu):
        settings(deadline=None, max_examples=50)(test)()
        print(f"{test.__name__}: every law holds on 50 cases")
    try:
        check_operation(careless_hypotenuse, np.array([3.0]), np.array([4.0]))
    except AssertionError as wrong:
        print("caught:", wrong)
