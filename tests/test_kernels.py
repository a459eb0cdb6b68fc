"""The transformer's row operations, float8 products and attention: the reference here, the fused kernels on a GPU."""

import ast
import logging
from collections.abc import Callable
from functools import partial
from importlib import import_module
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundreel.errors import InputError
from soundreel.models.attention import (
    AUTO,
    EXACT,
    LARGEST_ERROR,
    Kernel,
    attend,
    attend_projected,
    choose_kernel,
    why_not,
)
from soundreel.models.conditioning import KeyValue
from soundreel.models.kernels import checks, dispatch, float8_travel_plain, reference
from soundreel.models.kernels.checks import (
    FULL_SIZE,
    Widths,
    check_attention,
    check_projected_attention,
    check_rows,
    check_travel,
)
from soundreel.models.kernels.float8_rows import FLOAT8, FLOAT8_MAX, Affine, Float8Rows, Gate
from soundreel.models.kernels.float8_shares import Means
from soundreel.models.kernels.projected import Projected
from soundreel.models.rope import Rotary, rotate
from soundreel.request import Precision
from soundreel.weights.precision import check_precision
from soundreel.weights.quantized import Fp8Linear, has_float8_products, round_linear

CPU = torch.device("cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU is here")
needs_float8 = pytest.mark.skipif(
    not (torch.cuda.is_available() and has_float8_products(torch.device("cuda"))), reason="no GPU with float8 is here"
)

NARROW = Widths(model=96, heads=2, inner=200)

FLOAT8_ROUNDING = 2**-4
"""Half a step of the three bits that float8 keeps, relative."""


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def by_token(values: Tensor, run: int, tokens: int) -> Tensor:
    """[B, N, D] → [B, tokens, D]: each token's own row, and the last one for all that follow."""
    rows = (torch.arange(tokens) // run).clamp(max=values.shape[1] - 1)
    return values[:, rows]


class TestReference:
    @pytest.mark.parametrize(("tokens", "run", "runs"), [(7, 4, 2), (7, 7, 2), (8, 2, 4), (5, 9, 2), (3, 1, 1)])
    def test_a_norm_is_changed_run_by_run(self, tokens: int, run: int, runs: int) -> None:
        x, affine = draw(2, tokens, 6), Affine(draw(2, runs, 6, seed=1), draw(2, runs, 6, seed=2), run)
        expected = functional.layer_norm(x, (6,), eps=1e-6) * by_token(affine.scale, run, tokens)
        expected = expected + by_token(affine.shift, run, tokens)
        torch.testing.assert_close(reference.norm(x, affine, 1e-6, torch.float32), expected)

    def test_an_update_is_gated_run_by_run_and_may_be_shorter(self) -> None:
        x, update, gate = draw(2, 7, 6), draw(2, 5, 6, seed=1), Gate(draw(1, 2, 6, seed=2), 3)
        changed = reference.add(x, update, gate)
        torch.testing.assert_close(changed[:, :5], x[:, :5] + update * by_token(gate.factor, 3, 5))
        assert torch.equal(changed[:, 5:], x[:, 5:])

    def test_add_and_norm_are_both(self) -> None:
        x, update = draw(1, 4, 6), draw(1, 4, 6, seed=1)
        affine = Affine.everywhere(draw(6, seed=2), draw(6, seed=3))
        total, normed = reference.add_norm(x, update, None, affine, 1e-6, torch.float32)
        assert torch.equal(total, x + update)
        torch.testing.assert_close(normed, functional.layer_norm(total, (6,), affine.scale[0, 0], affine.shift[0, 0]))

    def test_heads_are_normed_together_and_turned(self) -> None:
        x, weight, rotary = draw(1, 3, 8), draw(8, seed=1), Rotary(draw(3, 2, seed=2), draw(3, 2, seed=3))
        normed = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * weight
        made = reference.rms_norm(x, weight, 1e-6, rotary, 4)
        torch.testing.assert_close(made, rotate(normed.view(1, 3, 2, 4), rotary))

    def test_rows_are_scaled_to_what_float8_holds(self) -> None:
        x = draw(1, 5, 64) * torch.tensor([1e-3, 1.0, 1e4, 0.0, 1.0])[:, None]
        rows = reference.quantize(x)
        assert rows.values.float().abs().amax(-1)[0, :3].tolist() == [FLOAT8_MAX] * 3
        small = x.abs() < rows.scale * 2**-6  # below float8's normal numbers steps are even
        assert ((rows.widened() - x).abs() <= torch.where(small, rows.scale * 2**-10, FLOAT8_ROUNDING * x.abs())).all()


class TestDispatch:
    def test_the_cpu_gets_the_reference_operations(self) -> None:
        assert dispatch.operations(draw(1, 1, 4)) is reference

    @needs_gpu
    def test_fused_operations_agree_with_the_reference(self) -> None:
        assert dispatch.is_fused(torch.device("cuda"))

    @needs_gpu
    @pytest.mark.parametrize("widths", [NARROW, Widths(model=768, heads=6, inner=2048)])
    def test_fused_operations_agree_at_other_widths(self, widths: Widths) -> None:
        check_rows(import_module(dispatch.FUSED), torch.device("cuda"), widths)

    @needs_gpu
    def test_a_kernel_that_fails_is_one_line(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(checks, "TOLERANCE", 0.0)
        dispatch.is_fused.cache_clear()
        with caplog.at_level(logging.WARNING):
            assert not dispatch.is_fused(torch.device("cuda"))
        assert len(caplog.records) == 1
        dispatch.is_fused.cache_clear()


def another(**changed: Callable[..., Any]) -> ModuleType:
    """The reference operations with some changed."""
    module = ModuleType("another")
    vars(module).update({name: value for name, value in vars(reference).items() if not name.startswith("__")})
    vars(module).update(changed)
    return module


def in_float8_only(name: str, change: Callable[[Float8Rows], Float8Rows]) -> Callable[..., Any]:
    """An operation that is right unless it makes float8 rows."""

    def changed(*arguments: Any, float8: bool = False, **options: Any) -> Any:
        made = getattr(reference, name)(*arguments, float8=float8, **options)
        if not float8:
            return made
        return (made[0], change(made[1])) if name == "add_norm" else change(made)

    return changed


def with_one_scale(rows: Float8Rows) -> Float8Rows:
    """One for the whole matrix: small rows lose what they have."""
    wide = rows.widened()
    scale = wide.abs().amax() / FLOAT8_MAX
    return Float8Rows((wide / scale).to(FLOAT8), scale.expand(rows.scale.shape))


def towards_zero(rows: Float8Rows) -> Float8Rows:
    """Half a step too small."""
    values = rows.values.float()
    step = torch.exp2(torch.floor(torch.log2(values.abs().clamp(min=2**-6))) - 3)
    return Float8Rows((values - values.sign() * step / 2).to(FLOAT8), rows.scale)


class TestCheck:
    def test_what_is_right_passes_at_any_width(self) -> None:
        for widths in (NARROW, FULL_SIZE):
            check_rows(reference, CPU, widths)

    @pytest.mark.parametrize(
        ("name", "wrong"),
        [
            ("gelu", lambda x, float8=False: 1.1 * x),
            ("add", lambda x, update, gate=None: x.clone()),
            ("rms_norm", lambda x, weight, eps, rotary, width: reference.rms_norm(x, weight, eps, None, width)),
            ("quantize", lambda x: with_one_scale(reference.quantize(x))),
            (
                "attend_few",
                lambda x, weight, eps, known, **_: reference.attend_few(x, weight, eps, known._replace(bias=None)),
            ),
            (
                "attend_few",
                lambda x, weight, eps, known, **_: reference.attend_few(x, weight, eps, last_keys_first(known)),
            ),
            ("norm_silu", lambda x, gamma, out: out.copy_(functional.silu(functional.normalize(x, dim=1) * gamma))),
            ("norm_silu", lambda x, gamma, out: None),
        ],
    )
    def test_operations_that_are_wrong_are_found(self, name: str, wrong: Callable[..., Any]) -> None:
        with pytest.raises(ArithmeticError, match=f"^{name} is off by"):
            check_rows(another(**{name: wrong}), CPU, NARROW)

    @pytest.mark.parametrize(
        ("name", "change"),
        [
            *product(["norm", "add_norm", "gelu"], [with_one_scale, towards_zero]),
            ("attend_few", towards_zero),  # all its rows have one scale
        ],
    )
    def test_float8_forms_that_are_wrong_are_found(self, name: str, change: Callable[[Float8Rows], Float8Rows]) -> None:
        with pytest.raises(ArithmeticError, match=f"^{name} in float8 is off by"):
            check_rows(another(**{name: in_float8_only(name, change)}), CPU, NARROW)

    def test_frames_that_are_looked_back_at_stay(self) -> None:
        def norm_silu(x: Tensor, gamma: Tensor, out: Tensor) -> None:
            reference.norm_silu(x, gamma, out)
            out._base.fill_(1.0)

        with pytest.raises(ArithmeticError, match="norm_silu is off by"):
            check_rows(another(norm_silu=norm_silu), CPU, NARROW)

    def test_a_result_that_is_no_number_is_found(self) -> None:
        with pytest.raises(ArithmeticError, match="add is off by nan"):
            check_rows(another(add=lambda x, update, gate=None: x * torch.nan), CPU, NARROW)


def last_keys_first(known: KeyValue) -> KeyValue:
    """Each run's keys and values where another's should be."""
    return KeyValue(known.key.flip(0), known.value.flip(0), known.bias)


def attend_in_float8(
    query: Tensor, key: Tensor, value: Tensor, *, mean: bool = True, keys: int | None = None
) -> Tensor:
    """What the float8 kernel computes, in plain PyTorch; without the means of the keys, or deaf to the last keys."""
    q, k, v = (x.float().transpose(1, 2) for x in (query, key, value))
    k, v = k[:, :, :keys], v[:, :, :keys]
    k = k - k.mean(2, keepdim=True) if mean else k
    v_mean = v.mean(2, keepdim=True)
    (q, q_scale), (k, k_scale), (v, v_scale) = (
        rounded(q, (-1,)), rounded(k, (-2, -1)), rounded(v - v_mean, (-2,))
    )  # fmt: skip
    scores = (q @ k.transpose(-1, -2)) * q_scale * k_scale * query.shape[-1] ** -0.5
    weights = torch.exp(scores - scores.amax(-1, keepdim=True)) * 2**8
    attended = (weights.to(FLOAT8).float() @ v) / weights.sum(-1, keepdim=True) * v_scale + v_mean
    return attended.transpose(1, 2).to(query.dtype)


def rounded(x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """To float8, with one scale over these axes."""
    scale = x.abs().amax(axes, keepdim=True) / FLOAT8_MAX
    return (x / scale).to(FLOAT8).float(), scale


class TestCheckOfAttention:
    def check(self, attend: Callable[[Tensor, Tensor, Tensor], Tensor], limit: float, width: int = 128) -> None:
        check_attention(attend, CPU, torch.bfloat16, width, limit)

    @pytest.mark.parametrize("width", [16, 64, 128])
    def test_what_is_right_passes(self, width: int) -> None:
        self.check(attend, LARGEST_ERROR[Kernel.CUDNN], width)
        self.check(attend_in_float8, LARGEST_ERROR[Kernel.FP8], width)

    @pytest.mark.parametrize(
        "wrong",
        [
            partial(attend_in_float8, mean=False),
            partial(attend_in_float8, keys=256),
            lambda q, k, v: torch.zeros_like(q),
            lambda q, k, v: v.mean(1, keepdim=True).expand_as(q),
            lambda q, k, v: attend(q, k, v.flip(2)),
            lambda q, k, v: attend(q, k, v) * torch.nan,
        ],
        ids=["no means", "whole blocks only", "zeros", "the values' mean", "another head's values", "not a number"],
    )
    def test_what_is_wrong_is_refused(self, wrong: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        with pytest.raises(ArithmeticError, match="attention is off by"):
            self.check(wrong, LARGEST_ERROR[Kernel.FP8])


class TestCheckOfProjectedAttention:
    @staticmethod
    def attend(query: Projected, key: Projected, value: Tensor, *, float8: bool) -> Tensor | Float8Rows:
        """What the kernel computes, in plain PyTorch."""
        head = value.shape[-1]
        q, k = (reference.rms_norm(x.float(), w.float(), eps, rotary, head) for x, w, eps, rotary in (query, key))
        made = attend_in_float8(q, k, value.float()).flatten(-2)
        return reference.quantize(made) if float8 else made.bfloat16()

    @pytest.mark.parametrize("width", [32, 128])
    def test_what_is_right_passes(self, width: int) -> None:
        check_projected_attention(self.attend, CPU, width)

    def test_what_does_not_rotate_is_refused(self) -> None:
        def still(query: Projected, key: Projected, value: Tensor, *, float8: bool) -> Tensor | Float8Rows:
            there = Rotary(torch.ones_like(key.rotary.cos), torch.zeros_like(key.rotary.sin))
            return self.attend(query, key._replace(rotary=there), value, float8=float8)

        with pytest.raises(ArithmeticError, match="attention is off by"):
            check_projected_attention(still, CPU, 64)

    def test_rows_of_another_scale_are_refused(self) -> None:
        def coarse(query: Projected, key: Projected, value: Tensor, *, float8: bool) -> Tensor | Float8Rows:
            made = self.attend(query, key, value, float8=float8)
            return Float8Rows(made.values, 1.1 * made.scale) if isinstance(made, Float8Rows) else made

        with pytest.raises(ArithmeticError, match="attention in float8 rows is off by"):
            check_projected_attention(coarse, CPU, 64)


class TestAttention:
    def test_auto_is_exact(self) -> None:
        assert choose_kernel(AUTO, CPU, torch.float32, 16) is Kernel.SDPA

    @pytest.mark.parametrize(
        ("missing", "speeds", "taken"),
        [
            ((), {}, Kernel.CUDNN),
            ((), {Kernel.SDPA: 602, Kernel.CUDNN: 597, Kernel.FLASH: 347}, Kernel.CUDNN),
            ((Kernel.CUDNN,), {Kernel.SDPA: 602, Kernel.CUDNN: 597, Kernel.FLASH: 347}, Kernel.SDPA),
            ((Kernel.CUDNN,), {}, Kernel.SDPA),
            ((), {Kernel.SDPA: 347, Kernel.CUDNN: 300, Kernel.FLASH: 400}, Kernel.FLASH),
            ((), {Kernel.SDPA: 347, Kernel.CUDNN: 300, Kernel.FP8: 900}, Kernel.SDPA),
            ((Kernel.SDPA,), {Kernel.SDPA: 900, Kernel.FLASH: 1}, Kernel.FLASH),
        ],
        ids=["nothing known", "as on an H200", "no cuDNN", "no cuDNN, nothing known", "flash is faster", "exact only",
             "what runs"],
    )  # fmt: skip
    def test_auto_is_the_fastest_by_the_calibration(
        self, monkeypatch: pytest.MonkeyPatch, missing: tuple[Kernel, ...], speeds: dict[Kernel, float], taken: Kernel
    ) -> None:
        monkeypatch.setattr(
            "soundreel.models.attention.why_not", lambda kernel, *_: "missing" if kernel in missing else None
        )
        assert choose_kernel(AUTO, CPU, torch.float32, 16, speeds) is taken

    def test_unknown_kernels_are_named(self) -> None:
        with pytest.raises(InputError, match="there is no attention 'quick': choose auto, sdpa, cudnn"):
            choose_kernel("quick", CPU, torch.float32, 16)

    @pytest.mark.parametrize("kernel", [Kernel.CUDNN, Kernel.FLASH, Kernel.SAGE, Kernel.FP8])
    def test_a_kernel_that_does_not_run_here_is_refused(self, kernel: Kernel) -> None:
        with pytest.raises(InputError, match=f"--attention {kernel} does not run on cpu: it needs an NVIDIA GPU"):
            choose_kernel(kernel, CPU, torch.float32, 16)

    @needs_gpu
    @pytest.mark.parametrize("kernel", EXACT)
    def test_exact_kernels_are_exact(self, kernel: Kernel) -> None:
        assert error_of(kernel, 300, 300) < 0.01

    @needs_float8
    def test_float8_attention_runs_here(self) -> None:
        """On a Hopper; the test after this one skips where the kernel does not run."""
        if torch.cuda.get_device_capability() == (9, 0):
            assert why_not(Kernel.FP8, torch.device("cuda"), torch.bfloat16, 128) is None

    @needs_float8
    @pytest.mark.parametrize(("queries", "keys"), [(1, 1), (64, 128), (300, 1000), (1000, 129), (4097, 4097)])
    def test_float8_attention_is_near(self, queries: int, keys: int) -> None:
        if why_not(Kernel.FP8, torch.device("cuda"), torch.bfloat16, 128):
            pytest.skip("the kernel does not run here")
        assert error_of(Kernel.FP8, queries, keys) < 0.1

    @needs_float8
    def test_float8_attention_norms_and_rotates(self) -> None:
        if why_not(Kernel.FP8, torch.device("cuda"), torch.bfloat16, 128):
            pytest.skip("the kernel does not run here")
        check_projected_attention(attend_projected, torch.device("cuda"), 128)

    @needs_float8
    def test_float8_rows_travel_here(self) -> None:
        """On a Hopper, whose kernels agree with plain PyTorch."""
        if torch.cuda.get_device_capability() == (9, 0):
            assert dispatch.is_travelling(torch.device("cuda"), torch.bfloat16, 128)

    def test_plain_float8_rows_pass_their_own_check(self) -> None:
        check_travel(float8_travel_plain, CPU, torch.float32, 32)

    def test_no_value_is_beyond_the_bound_that_all_agree_on(self) -> None:
        keys, values = (torch.randn(2, 1, 50, 3, 8) + torch.arange(3.0)[:, None] for _ in range(2))  # of two ranks
        found = [float8_travel_plain.statistics(torch.cat(both)) for both in zip(keys, values, strict=True)]
        reached = values.abs().amax((0, 1, 2, 4))
        bound = Means.of(found, 100).value_bound
        assert (bound > 0.999 * reached).all()
        assert (bound <= 2 * reached).all()

    @pytest.mark.parametrize("name", ["statistics", "round_queries", "round_rows", "lay_out", "attend_rows"])
    def test_a_wrong_step_of_float8_rows_is_refused(self, name: str) -> None:
        def wrong(*given: Any) -> Any:
            made = getattr(float8_travel_plain, name)(*given)
            if name == "lay_out":
                return made[0], made[1].flip(1)
            if made is None:
                given[-1 if name == "round_rows" else 1].fill_(3)
            return made if made is None else 1.3 * made

        steps = ModuleType("wrong")
        vars(steps).update(vars(float8_travel_plain) | {name: wrong})
        with pytest.raises(ArithmeticError):
            check_travel(steps, CPU, torch.float32, 32)


def error_of(kernel: Kernel, queries: int, keys: int) -> float:
    """Relative L2 from float32 attention; keys and values have means, as those of real models."""
    q = draw(2, queries, 3, 128)
    k, v = draw(2, keys, 3, 128, seed=1) + 2 * draw(1, 1, 3, 128, seed=2), draw(2, keys, 3, 128, seed=3)
    expected = functional.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)
    made = attend(*(x.to("cuda", torch.bfloat16) for x in (q, k, v)), kernel).float().cpu()
    return float((made - expected).norm() / expected.norm())


class TestFloat8Products:
    @pytest.mark.parametrize("bias", [True, False])
    def test_a_layer_is_rounded_row_by_row(self, bias: bool) -> None:
        layer = nn.Linear(32, 48, bias=bias).requires_grad_(False)
        layer.weight.mul_(torch.logspace(-3, 2, 48)[:, None])
        rounded = round_linear(layer)
        assert isinstance(rounded, Fp8Linear)
        assert (
            (rounded.dequantize(torch.float32) - layer.weight)
            .abs()
            .max(1)
            .values.le(FLOAT8_ROUNDING * layer.weight.abs().amax(1))
            .all()
        )
        x = draw(2, 5, 32)
        torch.testing.assert_close(rounded(x), functional.linear(x, rounded.dequantize(torch.float32), layer.bias))

    def test_the_cpu_does_not_multiply_float8(self) -> None:
        with pytest.raises(InputError, match="--precision fp8 needs a GPU with float8 products"):
            check_precision(Precision.FP8, CPU)
        check_precision(Precision.AUTO, CPU)

    @needs_float8
    def test_products_of_rows_are_near(self) -> None:
        layer = nn.Linear(64, 96, device="cuda", dtype=torch.bfloat16).requires_grad_(False)
        rounded = round_linear(layer)
        rounded.takes_float8 = True
        x = draw(1, 40, 64).to("cuda", torch.bfloat16)
        exact = layer(x).float()
        for given in (x, reference.quantize(x)):
            assert isinstance(given, Tensor | Float8Rows)
            assert float((rounded(given).float() - exact).norm() / exact.norm()) < 0.06


COUNTS = {"tokens", "heads", "length", "updated", "queries", "keys"}
"""What parameters of kernels are called that go by a rank's share of a pass."""


def test_no_kernel_is_compiled_again_for_another_share_of_a_pass() -> None:
    """What was proven on a few tokens and heads is what runs on any. Read in the source: Triton may be missing."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in Path(dispatch.__file__).parent.glob("*.py")]
    nodes = [node for tree in trees for node in tree.body]
    lists = {
        ast.unparse(target): node.value
        for node in nodes
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(node.value, ast.List)
    }
    checked = set()
    for node in nodes:
        decorator = "".join(map(ast.unparse, node.decorator_list)) if isinstance(node, ast.FunctionDef) else ""
        if not isinstance(node, ast.FunctionDef) or "triton.jit" not in decorator or not node.name.startswith("_"):
            continue
        counts = {argument.arg for argument in node.args.args} & COUNTS
        _, _, listed = decorator.rstrip(")").partition("do_not_specialize=")
        spared = ast.literal_eval(lists.get(listed, listed or "[]"))
        assert counts <= set(spared), node.name
        checked |= {node.name} if counts else set()
    assert {"_attend", "_attend_few", "_row", "_rms_rotate", "_norm_pack", "_lay_out", "_round_rows"} <= checked
