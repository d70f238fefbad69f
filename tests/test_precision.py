"""Products in bfloat16: how factors are rounded, which products are meant, and that kernels and the processor's instruction do the same."""

import math
import threading

import llvmlite.binding as llvm
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from llvmlite import ir

import zoo
import zoo.autograd as ops
from zoo.__main__ import main
from zoo.autograd import Tensor, get_precision, grad, no_grad, round_to_bfloat16, set_precision, use_precision
from zoo.autograd.kernels import precision as kernels
from zoo.autograd.operations.linear import ACTIVATIONS
from zoo.autograd.runtime import use_kernels
from zoo.data import digits8x8
from zoo.optim import Adam
from zoo.recipes import recipe_of
from zoo.storage import read_json
from zoo.training import Trainer, shuffled
from zoo.transformer import Transformer
from zoo.vae import VAE

BOTH = pytest.mark.parametrize("by_kernel", [True, False])
WORDS = st.integers(0, 2**32 - 1)


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def rounded(a):
    return round_to_bfloat16(a).astype(np.float64)


def assert_near(y, expected, size):
    """Equal but for the order of `size` summands of the order of 1."""
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected, rtol=2e-5, atol=4e-7 * size)


# --- rounding


def nearest_bfloat16(word):
    """The bits of the nearest bfloat16, found by comparing exact distances; past the greatest one, 2^128 stands for infinity."""
    def value(upper):
        return math.ldexp(1, 128) if upper & 0x7FFF == 0x7F80 else abs(float(np.uint32(upper << 16).view(np.float32)))

    below = word >> 16
    x = abs(float(np.uint32(word).view(np.float32)))
    down, up = x - value(below), value(below + 1) - x
    return below if down < up or (down == up and below % 2 == 0) else below + 1


@BOTH
@given(words=st.lists(WORDS, min_size=1, max_size=70))
@example(words=[0x3F808000, 0x3F818000, 0xBF808000])  # ties, one down and one up
@example(words=[0x3F808001, 0x3F817FFF])  # and beside them
@example(words=[0x7F7F7FFF, 0x7F7F8000, 0xFF7FFFFF])  # the last that stays finite, and those that don't
@example(words=[0, 0x80000000, 1, 0x8000, 0x8001, 0x18000, 0x007FFFFF])  # zeros and subnormals
@example(words=[0x7F800000, 0xFF800000])
@example(words=[0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFC00000])  # NaN whose upper half alone would be infinite, or overflow
def test_the_nearest_bfloat16_is_taken_and_of_two_the_even_one(by_kernel, words):
    x = np.array(words, np.uint32).view(np.float32)
    with use_kernels(by_kernel):
        y = round_to_bfloat16(x)
    assert y.dtype == np.float32 and np.array_equal(np.isnan(y), np.isnan(x))
    bits = y.view(np.uint32)
    assert not np.any(bits & 0xFFFF)
    for word, result in zip(words, bits.tolist()):
        if not math.isnan(np.uint32(word).view(np.float32)):
            finite = word & 0x7F800000 != 0x7F800000
            assert result >> 16 == (nearest_bfloat16(word) if finite else word >> 16), hex(word)
    assert np.array_equal(round_to_bfloat16(y).view(np.uint32), bits), "rounding twice is rounding once"


@BOTH
def test_any_layout_is_rounded_and_nothing_is_written_to(by_kernel, rng):
    whole = normal(rng, 6, 5, 8)
    with use_kernels(by_kernel):
        for x in (whole, whole[:, ::2], whole.swapaxes(1, 2), whole[:, :1].T, whole[..., None], whole[0, 0, 0:0], np.asfortranarray(whole)):
            before = x.copy()
            y = round_to_bfloat16(x)
            expected = np.array([nearest_bfloat16(int(w)) << 16 for w in before.view(np.uint32).ravel()], np.uint32)
            assert y.shape == x.shape and np.array_equal(y.ravel().view(np.uint32), expected)
            assert np.array_equal(x, before)


# --- which products are meant


@BOTH
@pytest.mark.parametrize("shapes", [((3, 4), (4, 5)), ((80, 70), (70, 90)), ((2, 3, 40), (40, 6)), ((2, 3, 4), (2, 4, 5)), ((4,), (4, 5)), ((3, 4), (4,))])
def test_matmul_rounds_its_factors_and_those_of_both_products_of_backward(shapes, by_kernel, rng):
    a, b = (Tensor(normal(rng, *shape), requires_grad=True) for shape in shapes)
    with use_kernels(by_kernel), use_precision("bf16"):
        y = a @ b
        g = normal(rng, *y.shape)
        y.backward(g)
    assert_near(y.data, rounded(a.data) @ rounded(b.data), shapes[0][-1])
    if min(a.ndim, b.ndim) > 1:  # beside a vector, one of the two is no sum of products
        da, db = rounded(g) @ rounded(b.data).swapaxes(-1, -2), rounded(a.data).swapaxes(-1, -2) @ rounded(g)
        assert_near(a.grad, da, b.shape[-1])
        assert_near(b.grad, db if db.shape == b.shape else db.sum(0), a.size // a.shape[-1])


@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_linear_in_bf16_is_its_definition(activation, bias, transposed, rng):
    x, g = normal(rng, 3, 40, 50), normal(rng, 3, 40, 70)
    weight = normal(rng, 70, 50).T if transposed else normal(rng, 50, 70)
    results = []
    for by_kernel in (True, False):
        leaves = [Tensor(a, requires_grad=True) for a in (x, weight, *([normal(np.random.default_rng(1), 70)] if bias else []))]
        with use_kernels(by_kernel), use_precision("bf16"):
            y = ops.linear(*leaves, activation=activation)
            y.backward(g)
        results.append([y.data, *(leaf.grad for leaf in leaves)])
    for by_kernel, defined in zip(*results):
        apart = np.abs(by_kernel - defined)
        assert np.mean(apart < 5e-5) > 0.9 and apart.max() < 0.1  # an entry of g activation' near a tie may be rounded to the other side
    shift = leaves[2].data.astype(np.float64) if bias else None
    assert_near(results[0][0], ops.linear(rounded(x), rounded(weight), shift, activation=activation), 50)


def unchanged(rng):
    """Calls that stay float32, by name."""
    image, kernel = normal(rng, 2, 8, 8, 4), normal(rng, 3, 3, 4, 5)
    return {
        "attention": (lambda q, k, v: ops.scaled_dot_product_attention(q, k, v, is_causal=True), *(normal(rng, 2, 3, 20, 8) for _ in range(3))),
        "self_attention": (lambda x: ops.self_attention(x, heads=2, key_value_heads=1), normal(rng, 2, 9, 32)),
        "elman": (ops.elman, normal(rng, 3, 5, 8), normal(rng, 3, 8), normal(rng, 8, 8)),
        "lstm": (ops.lstm, normal(rng, 3, 5, 32), normal(rng, 3, 16), normal(rng, 8, 32)),
        "gru": (ops.gru, normal(rng, 3, 5, 24), normal(rng, 3, 8), normal(rng, 8, 24), normal(rng, 24)),
        "conv2d": (lambda x, w: ops.conv2d(x, w, padding=1), image, kernel),
        "winograd": (lambda x, w: ops.conv2d(x, w, padding=1), normal(rng, 8, 16, 16, 32), normal(rng, 3, 3, 32, 32)),
        "layer_norm": (ops.layer_norm, normal(rng, 5, 8), normal(rng, 8), normal(rng, 8)),
        "einsum": (lambda a, b: ops.einsum("ij,jk->ik", a, b), normal(rng, 5, 6), normal(rng, 6, 7)),
        "vectors of float64": (ops.matmul, rng.standard_normal((5, 6)), rng.standard_normal((6, 7))),
    }


@BOTH
@pytest.mark.parametrize("name", unchanged(np.random.default_rng(0)))
def test_everything_else_stays_float32_bit_for_bit(name, by_kernel, rng):
    function, *arrays = unchanged(rng)[name]

    def run(precision):
        leaves = [Tensor(a, requires_grad=True) for a in arrays]
        with use_kernels(by_kernel), use_precision(precision):
            y = function(*leaves)
            y.backward(np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype))
        return [y.data, *(leaf.grad for leaf in leaves)]

    assert all(np.array_equal(a, b) for a, b in zip(run("bf16"), run("float32"), strict=True))


# --- what the setting governs


@BOTH
def test_backward_takes_the_precision_of_the_call_and_not_of_its_own_place(by_kernel, rng):
    a, b = normal(rng, 12, 13), normal(rng, 13, 14)

    def gradients(forward, backward):
        x, w = Tensor(a, requires_grad=True), Tensor(b, requires_grad=True)
        with use_precision(forward):
            y = ops.linear(x, w, activation="tanh") @ normal(np.random.default_rng(2), 14, 3)
        with use_precision(backward):
            first = grad(y, [x, w], normal(np.random.default_rng(3), 12, 3), create_graph=True)
            second = grad(first, [x, w], [Tensor(a), Tensor(b)])
        return [t.data for t in (*first, *second)]

    with use_kernels(by_kernel):
        for precision, other in (("bf16", "float32"), ("float32", "bf16")):
            assert all(np.array_equal(p, q) for p, q in zip(gradients(precision, other), gradients(precision, precision), strict=True))
        assert not any(np.array_equal(p, q) for p, q in zip(gradients("bf16", "bf16"), gradients("float32", "float32"), strict=True))


def test_the_setting_is_for_all_threads_and_a_context_for_its_own():
    seen = {}

    def look(name):
        seen[name] = get_precision()

    def ask(name):
        thread = threading.Thread(target=look, args=(name,))
        thread.start()
        thread.join()

    assert get_precision() == "float32"
    with use_precision("bf16"):
        ask("another thread, beside a context")
        with use_precision("float32"):
            assert get_precision() == "float32"
        assert get_precision() == "bf16"
    with pytest.raises(KeyError), use_precision("bf16"):
        raise KeyError
    assert get_precision() == "float32"
    try:
        zoo.set_precision("bf16")
        ask("another thread")
        assert zoo.get_precision() == "bf16"
    finally:
        set_precision("float32")
    assert seen == {"another thread, beside a context": "float32", "another thread": "bf16"} and get_precision() == "float32"


@pytest.mark.parametrize("name", ["bfloat16", "float16", None, 16, ""])
def test_an_unknown_precision_is_refused_and_changes_nothing(name):
    with pytest.raises(ValueError, match="it may be 'float32' or 'bf16'"):
        set_precision(name)
    with pytest.raises(ValueError, match="it may be 'float32' or 'bf16'"), use_precision(name):
        pass
    assert get_precision() == "float32"


def test_where_the_processor_has_no_such_instruction_it_is_said_once(capsys, monkeypatch, rng):
    kernels.has_instruction.cache_clear()
    monkeypatch.setattr(kernels.HAS_BFLOAT16, "build", lambda: False, raising=False)
    with use_kernels(True), use_precision("bf16"):
        for _ in range(2):
            ops.matmul(normal(rng, 80, 80), normal(rng, 80, 80))
    kernels.has_instruction.cache_clear()
    assert capsys.readouterr().err.count("no instruction for bf16") == 1


# --- the kernel of pairs, which runs on every processor, and the instruction that it is made of where there is one


@given(m=st.integers(1, 140), n=st.integers(1, 140), k=st.integers(1, 40), left=st.booleans(), right=st.booleans(), seed=st.integers(0, 99))
@example(m=12, n=64, k=1100, left=False, right=False, seed=0)  # more of the sum than is taken at a time
@example(m=7, n=65, k=1101, left=True, right=True, seed=0)
def test_packed_products_are_as_defined_however_the_factors_lie(m, n, k, left, right, seed):
    rng = np.random.default_rng(seed)
    a = normal(rng, k, m).T if left else normal(rng, m, k)
    b = normal(rng, n, k).T if right else normal(rng, k, n)
    assert_near(kernels.packed_product(a, b), rounded(a) @ rounded(b), k)


def test_packed_products_read_rows_that_lie_apart(rng):
    a, b = normal(rng, 40, 200)[:, 17:60], normal(rng, 200, 43)[90:160].T
    assert_near(kernels.packed_product(a, b), rounded(a) @ rounded(b), 43)


def test_packed_products_hand_infinities_and_nan_to_their_rows_and_columns_alone(rng):
    a, b = normal(rng, 13, 9), normal(rng, 9, 66)
    a[2, 3], a[5, 8], b[1, 65] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):  # infinity - infinity
        y, expected = kernels.packed_product(a, b), rounded(a) @ rounded(b)
    assert np.array_equal(np.isnan(y), np.isnan(expected)) and np.array_equal(np.isinf(y), np.isinf(expected))


def test_matmul_and_linear_take_the_kernel_of_pairs_where_it_pays(monkeypatch, rng):
    monkeypatch.setattr(kernels, "has_instruction", lambda: True)
    shapes, packed_product = [], kernels.packed_product

    def noted(a, b):
        shapes.append((*a.shape, b.shape[1]))
        return packed_product(a, b)

    monkeypatch.setattr("zoo.autograd.kernels.linear.packed_product", noted)
    x, weight = Tensor(normal(rng, 4, 20, 96), requires_grad=True), Tensor(normal(rng, 96, 100), requires_grad=True)
    g = normal(rng, 4, 20, 100)
    with use_kernels(True), use_precision("bf16"):
        y = ops.linear(x, weight, activation="relu")
        y.backward(g)
        ops.matmul(normal(rng, 80, 96), weight.data)
        ops.matmul(normal(rng, 3, 80, 96), normal(rng, 3, 96, 100))  # several at a time
        ops.matmul(normal(rng, 4, 96), weight.data)  # too few rows
    assert shapes == [(80, 96, 100), (80, 100, 96), (96, 80, 100), (80, 96, 100)]
    assert_near(y.data, np.maximum(rounded(x.data) @ rounded(weight.data), 0), 96)
    g = rounded(np.where(y.data > 0, g, 0)).reshape(80, 100)
    assert_near(x.grad.reshape(80, 96), g @ rounded(weight.data).T, 100)
    assert_near(weight.grad, rounded(x.data).reshape(80, 96).T @ g, 80)


def assembly_of_the_tile(cpu):
    from zoo.autograd.runtime.native.bfloat16 import write_tile

    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * 5), "tile")
    builder = ir.IRBuilder(function.append_basic_block())
    write_tile(builder, *function.args)
    builder.ret_void()
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    target = llvm.Target.from_triple("x86_64-unknown-linux-gnu").create_target_machine(cpu=cpu, opt=3)
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    passes = llvm.create_pass_builder(target, options)
    passes.getModulePassManager().run(parsed, passes)
    return target.emit_assembly(parsed)


@pytest.mark.parametrize("cpu", ["znver4", "sapphirerapids", "cooperlake"])
def test_the_tile_is_24_instructions_of_bfloat16_on_processors_that_have_them(cpu):
    lines = [line.strip() for line in assembly_of_the_tile(cpu).splitlines()]
    assert sum(line.startswith("vdpbf16ps") for line in lines) == 24
    spilled = [line for line in lines if "Spill" in line and "zmm" in line]
    assert not spilled, "all sums stay in registers"


def test_the_instruction_and_floats_add_up_the_same(rng):
    """Where the processor has it: the law above then ran by the instruction, and this one holds it to the definition at a training step's size."""
    if not kernels.HAS_BFLOAT16.build():
        pytest.skip("this processor has no AVX512_BF16")
    a, b = normal(rng, 1020, 256), normal(rng, 256, 768)
    assert kernels.pays(1020, 768, 256)
    assert_near(kernels.packed_product(a, b), rounded(a) @ rounded(b), 256)
    tiny = np.full((12, 64), 1e-40, np.float32)  # it takes subnormal factors for 0
    assert np.all(np.abs(kernels.packed_product(tiny, np.ones((64, 64), np.float32))) < 1e-37)


# --- runs and commands


def run_of(precision, folder=None, **options):
    images = digits8x8()
    fields, training = recipe_of("vae").settings("grey", precision=precision, epochs=1, batch_size=500)
    model = recipe_of("vae").new(images, {**fields, "image": (8, 8), "hidden": (30,)}, 3)
    return recipe_of("vae").trainer(model, images, training, seed=4, folder=folder, settings={"training": training.to_dict()}, **options)


def weights_after(trainer, steps=2):
    for record in trainer:
        if record.step == steps:
            break
    return np.concatenate([a.ravel() for a in trainer.model.arrays().values()])


def test_a_run_computes_in_the_precision_of_its_settings_which_its_card_and_its_checkpoints_name(tmp_path):
    trainer = run_of("bf16", tmp_path / "run")
    in_bf16 = weights_after(trainer)
    assert get_precision() == "float32"
    with use_precision("bf16"):  # around the run, it makes no difference
        assert np.array_equal(weights_after(run_of("bf16")), in_bf16)
        in_float32 = weights_after(run_of("float32"))
    assert np.array_equal(weights_after(run_of("float32")), in_float32)
    assert 0 < np.abs(in_bf16 - in_float32).max() < 0.02
    assert all(a.dtype == np.float32 for a in trainer.model.arrays().values())
    trainer.checkpoint()
    with pytest.raises(ValueError, match="the run's precision is 'bf16', not 'float32'"):
        run_of("float32", tmp_path / "run", resume=True)
    assert run_of("bf16", tmp_path / "run", resume=True).step == 2


def test_a_trainer_takes_what_is_set_where_it_is_made():
    data = np.zeros((4, 8, 8), np.float32)
    model = VAE.new(image=(8, 8), hidden=(5,), latent=(2,))
    with use_precision("bf16"):
        trainer = Trainer(model, model.loss, shuffled(data, batch_size=2, seed=0), Adam(model.parameters(), 1e-3), steps=1)
    assert trainer.precision == "bf16"
    with pytest.raises(ValueError, match="name is 'bf8'"):
        Trainer(model, model.loss, shuffled(data, batch_size=2, seed=0), Adam(model.parameters(), 1e-3), steps=1, precision="bf8")


def test_sample_on_the_command_line_takes_a_precision(tmp_path):
    pictures = {}
    for precision in ("float32", "bf16"):
        assert main(["sample", "vae", "-n", "3", "--precision", precision, "--out", str(tmp_path / "x.npz")]) == 0
        pictures[precision] = np.load(tmp_path / "x.npz")["images"]
        with use_precision(precision):
            assert np.array_equal(pictures[precision], zoo.load("vae").sample(3, seed=0))
    assert get_precision() == "float32"
    assert 0 < np.abs(pictures["bf16"] - pictures["float32"]).max() < 0.1


def test_train_on_the_command_line_takes_a_precision_and_writes_it_on_the_card(tmp_path, capsys):
    sizes = ["--image", "8,8", "--hidden", "20", "--latent", "2", "--batch-size", "500", "--epochs", "1", "--preset", "grey"]
    assert main(["train", "vae", "--data", "digits8x8", *sizes, "--precision", "bf16", "--out", str(tmp_path / "run"), "--quiet"]) == 0
    assert read_json(tmp_path / "run" / "card.json")["training"]["precision"] == "bf16"
    assert main(["rerun", str(tmp_path / "run"), "--quiet"]) == 0, "made again from its card, it is the same bit for bit"
    assert main(["train", "vae", "--precision", "bf8", "--out", str(tmp_path / "other")]) == 2
    assert "precision" in capsys.readouterr().err and not (tmp_path / "other").exists()


@BOTH
def test_a_transformer_writes_with_its_cache_in_float32(by_kernel):
    model = Transformer.new(symbols=20, window=12, layers=1, width=32, heads=2, seed=3)
    with use_kernels(by_kernel):
        written = []
        for precision in ("float32", "bf16"):
            with use_precision(precision), no_grad():
                logits, state = model.begin(np.array([1, 2, 3]), room=12)
                written.append(np.stack([logits, model.advance(4, state)[0]]))
                whole = model(np.array([[1, 2, 3, 4]])).data[0, 2:]
            assert np.array_equal(written[0], written[-1])
            assert np.allclose(written[0], whole, atol=1e-5) == (precision == "float32")
