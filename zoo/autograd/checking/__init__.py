"""Check gradients against differences, and an operation against every law that operations keep.

    check_gradients(lambda x, w: tanh(x @ w), x, w)        # any function of tensors; float64 arrays

    @given(broadcastable(2))                                # a property test of an operation of your own
    def test_hypotenuse(case):
        check_operation(hypotenuse, *case)

A derivative that is wrong by a tenth of a percent fails: differences are extrapolated to a step of zero (Ridders 1982), which
in float64 leaves ten digits or so, and their own error is estimated and taken into account, so that a right one doesn't fail.

The strategies (`arrays`, `broadcastable`, `shapes`) need Hypothesis, which comes with `pip install numpy-zoo[test]`.
"""

from .gradients import check_gradients
from .laws import check_operation
from .strategies import arrays, broadcastable, shapes

__all__ = ["arrays", "broadcastable", "check_gradients", "check_operation", "shapes"]
