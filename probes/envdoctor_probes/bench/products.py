"""[payload] Matrix products: operands of random numbers, the call that is timed, and a check of every element.

The check is Freivalds': for a random vector of signs s, C·s must be A·(B·s). A wrong element anywhere shows, and the
relative rms of the difference is that of C's own error, because the signs are independent of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Tuple

from envdoctor_probes.bench.precision import fp32_computed_as
from envdoctor_probes.bench.stopwatch import in_turn
from envdoctor_probes.bench.suite import NotApplicable, Work

if TYPE_CHECKING:
    from envdoctor_probes.bench.place import Operation, Place

__all__ = ["PRECISIONS", "Product", "why_not"]

_FP32_AS = {"fp32": "ieee", "tf32": "tf32"}
_ROWS = 2048
_SIGNS = 4
_SETS = 2
Shape = Tuple[int, int, int]


@dataclass(frozen=True)
class Precision:
    """How one precision is stored, and the relative rms error up to which a product counts as correct.

    The errors allowed are a few times what rounding the result, or TF32's rounding of the factors, makes of it.
    """

    dtype: str
    bytes_in: int
    bytes_out: int
    largest_error: float


PRECISIONS: Dict[str, Precision] = {
    "fp64": Precision("float64", 8, 8, 1e-12),
    "fp32": Precision("float32", 4, 4, 2e-5),
    "tf32": Precision("float32", 4, 4, 2e-3),
    "fp16": Precision("float16", 2, 2, 1e-2),
    "bf16": Precision("bfloat16", 2, 2, 2e-2),
    "fp8": Precision("float8_e4m3fn", 1, 2, 2e-2),
    "int8": Precision("int8", 1, 4, 0.0),
}


def why_not(place: Place, precision: str) -> str:
    """Say why this device or this torch does not have that precision, or nothing."""
    if not hasattr(place.torch, PRECISIONS[precision].dtype):
        return f"torch {place.torch.__version__} has no {PRECISIONS[precision].dtype}"
    missing = {"fp8": "_scaled_mm", "int8": "_int_mm"}.get(precision)
    if missing and not hasattr(place.torch, missing):
        return f"torch {place.torch.__version__} has no torch.{missing}"
    needs = {"tf32": (8, 0), "fp8": (8, 9), "int8": (7, 5)}.get(precision)
    if needs is None or (not place.is_cuda and precision == "int8"):
        return ""
    if not place.is_cuda:
        return f"{precision} is for GPUs from compute capability {needs[0]}.{needs[1]} on"
    has = place.torch.cuda.get_device_capability(place.device)
    return (
        ""
        if has >= needs
        else f"{precision} needs compute capability {needs[0]}.{needs[1]}, this GPU has {has[0]}.{has[1]}"
    )


@dataclass(frozen=True)
class Operands:
    """The factors (the second one stored transposed, as a linear layer has it) and the product's place."""

    first: Any
    second_t: Any
    result: Any


class Product:
    """C = A·B of one shape (m, k, n) and precision."""

    def __init__(self, place: Place, shape: Shape, precision: str) -> None:
        self._place, self._torch, self.shape, self.precision = place, place.torch, shape, precision
        self._kind = PRECISIONS[precision]
        self._dtype = getattr(self._torch, self._kind.dtype, None)

    @property
    def flop(self) -> int:
        """Give 2·m·k·n: a multiplication and an addition for each triple."""
        m, k, n = self.shape
        return 2 * m * k * n

    @property
    def needs_bytes(self) -> float:
        """Give the memory of the operands, and of what it takes to make and to check them."""
        m, k, n = self.shape
        operands = (m * k + k * n) * self._kind.bytes_in + m * n * self._kind.bytes_out
        return _SETS * operands + 4 * max(m * k, k * n) + 8 * _ROWS * max(k, n)

    def work(self) -> Work:
        """Make the operands and give what is to be timed."""
        why = why_not(self._place, self.precision)
        if why:
            raise NotApplicable(why)
        generator = self._torch.Generator(device=self._place.device).manual_seed(20260101)
        sets = [self._operands(generator) for _ in range(_SETS)]
        operations = [self._call(each) for each in sets]
        return Work(
            in_turn(operations), self.flop, "flop", check=lambda: self._check(sets[0], operations[0]),
            within=lambda: fp32_computed_as(self._torch, _FP32_AS.get(self.precision, "default")),
        )  # fmt: skip

    def _operands(self, generator: Any) -> Operands:
        m, k, n = self.shape
        first, second_t = (self._random((rows, k), generator) for rows in (m, n))
        out = {"int8": self._torch.int32, "fp8": self._torch.bfloat16}.get(self.precision, self._dtype)
        return Operands(first, second_t, self._torch.empty(m, n, dtype=out, device=self._place.device))

    def _random(self, size: Tuple[int, int], generator: Any) -> Any:
        """Give normal numbers: zeros or ones would draw less power, and so run faster than any real data."""
        device = self._place.device
        if self.precision == "int8":
            return self._torch.randint(-128, 128, size, dtype=self._torch.int8, device=device, generator=generator)
        stored = self._torch.float64 if self.precision == "fp64" else self._torch.float32
        return self._torch.randn(size, dtype=stored, device=device, generator=generator).to(self._dtype)

    def _call(self, operands: Operands) -> Operation:
        torch, first, second, result = self._torch, operands.first, operands.second_t.t(), operands.result
        if self.precision == "fp8":
            one = torch.ones((), dtype=torch.float32, device=self._place.device)
            return lambda: _first_of(
                torch._scaled_mm(first, second, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)  # noqa: SLF001
            )
        if self.precision == "int8":
            return lambda: torch._int_mm(first, second, out=result)  # noqa: SLF001 - there is no other name for it
        return lambda: torch.mm(first, second, out=result)

    def _check(self, operands: Operands, operation: Operation) -> Tuple[bool, Optional[float]]:
        product = operation()
        error = freivalds(self._torch, operands.first, operands.second_t, product)
        return error is not None and error <= self._kind.largest_error, error


def _first_of(answer: Any) -> Any:
    """Give the product: ``_scaled_mm`` of torch before 2.3 answers with a pair."""
    return answer[0] if isinstance(answer, tuple) else answer


def freivalds(torch: Any, first: Any, second_t: Any, product: Any) -> Optional[float]:
    """Give the product's relative rms error, or None when the reference is all zeros: that checks nothing."""
    generator = torch.Generator(device="cpu").manual_seed(7)
    signs = torch.randint(0, 2, (second_t.shape[0], _SIGNS), generator=generator).mul_(2).sub_(1)
    signs = signs.to(product.device, torch.float64)
    through = _rows(second_t, lambda rows, at: rows.t() @ signs[at], torch.add)
    pairs = _rows(product, lambda rows, at: [(rows @ signs, at)], lambda a, b: a + b)
    wrong, whole = 0.0, 0.0
    for seen, at in pairs:
        expected = _wide(first[at]) @ through
        wrong += float((seen - expected).square().sum())
        whole += float(expected.square().sum())
    return (wrong / whole) ** 0.5 if whole > 0 else None


def _rows(matrix: Any, each: Callable[[Any, slice], Any], join: Callable[[Any, Any], Any]) -> Any:
    """Go through a matrix by rows, widened to fp64 a part at a time, and join what each part gives."""
    found: Any = None
    for start in range(0, matrix.shape[0], _ROWS):
        at = slice(start, min(start + _ROWS, matrix.shape[0]))
        part = each(_wide(matrix[at]), at)
        found = part if found is None else join(found, part)
    return found


def _wide(matrix: Any) -> Any:
    narrow = matrix.is_floating_point() and matrix.element_size() == 1  # fp8 converts to fp32 alone
    return matrix.float().double() if narrow else matrix.double()
