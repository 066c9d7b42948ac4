"""The models: exact parameters and FLOPs, what a step changes, and users' own models that do everything wrong."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from envdoctor_probes.bench import bert, flops, llama, vit
from envdoctor_probes.bench.counted import attends, count
from envdoctor_probes.bench.recipes import FROM_LIBRARIES, Recipe, find
from envdoctor_probes.bench.training import Settings, Step, why_not
from envdoctor_probes.bench.wanted import Wanted
from envdoctor_probes.bench.yours import Unusable

from envdoctor.probe import NotThere
from tests.bench_stand import NEEDS_TORCH, no_limit, run, tiny

pytestmark = [*NEEDS_TORCH, pytest.mark.usefixtures("no_limit")]
__all__ = ["no_limit"]

# torchvision and timm, Hugging Face transformers (BertForMaskedLM), and Llama 3 8B's configuration.
PARAMETERS = {
    "vit_b16": 86_567_656, "vit_s16": 22_050_664, "vit_l16": 304_326_632, "vit_ti16": 5_717_416,
    "bert_base": 109_514_298, "llama_block": 218_112_000,
}  # fmt: skip


def counted(run: Any) -> int:
    """Count the FLOPs of something on the meta device."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def on_meta(recipe: Recipe) -> tuple[Any, Any, Any]:
    """Give a model, its inputs and its target on the meta device."""
    import torch

    with torch.device("meta"):
        return (recipe.make(), *recipe.feed(1))


@pytest.mark.parametrize(
    ("name", "on_gpu"), [*((name, False) for name in PARAMETERS), ("bert_base", True), ("llama_block", True)]
)
def test_flops_and_parameters_are_exact(name: str, on_gpu: bool) -> None:
    """The formulas give what torch counts on the meta device, to the last digit; parameters are the published ones."""
    import torch

    recipe = find(torch, name, on_gpu=on_gpu)
    model, inputs, target = on_meta(recipe)
    assert recipe.flops is not None
    assert PARAMETERS[name] == sum(each.numel() for each in model.parameters())
    assert recipe.flops.forward == counted(lambda: model(*inputs))
    assert recipe.flops.train == counted(lambda: recipe.loss(model(*inputs), target).backward())


@pytest.mark.parametrize("name", [name for name in PARAMETERS if name != "llama_block"])
def test_flops_of_a_block_are_exact(name: str) -> None:
    """A block by itself, its input wanting a gradient, costs three times its forward pass."""
    import torch

    recipe = find(torch, name, on_gpu=False)
    assert recipe.flops
    assert recipe.make_block
    assert recipe.feed_block
    with torch.device("meta"):
        block, tokens = recipe.make_block(), recipe.feed_block(1).requires_grad_()
    assert recipe.flops.block_forward == counted(lambda: block(tokens))
    assert recipe.flops.block_train == counted(lambda: block(tokens).sum().backward()) == 3 * recipe.flops.block_forward


def test_a_vit_b16_costs_what_is_published() -> None:
    """35.1 GFLOP forward, 105.2 with backward, and a twelfth of the blocks' part in each block."""
    found = flops.vit(width=768, depth=12)
    assert (35_127_656_448, 105_151_758_336, 2_907_909_120, 8_723_727_360) == (
        found.forward, found.train, found.block_forward, found.block_train,
    )  # fmt: skip


@pytest.mark.parametrize("make", ["vit", "bert"])
def test_attention_by_the_formula_gives_the_same_result(make: str) -> None:
    """Attention that shows its weights and torch's own compute the same."""
    import torch

    torch.manual_seed(1)
    block = {"vit": vit, "bert": bert}[make].block_class(torch)(48, 3).eval()
    tokens = torch.randn(2, 7, 48)
    usual = block(tokens)
    block.weights = True
    assert torch.allclose(usual, block(tokens), atol=1e-5)


def test_a_llama_attends_to_the_past_alone() -> None:
    """A later token changes nothing before it, and its place matters."""
    import torch

    torch.manual_seed(1)
    block = llama.llama_block(torch, width=32, heads=4, shared_heads=2, hidden=64)
    tokens = torch.randn(1, 6, 32)
    changed = tokens.clone()
    changed[:, -1] += 1.0
    first, second = block(tokens), block(changed)
    assert torch.allclose(first[:, :-1], second[:, :-1], atol=1e-6)
    swapped = block(tokens[:, [1, 0, 2, 3, 4, 5]])
    assert not torch.allclose(first[:, -1], swapped[:, -1], atol=1e-4)


@pytest.mark.parametrize("causal", [False, True])
def test_a_torch_without_fused_attention_attends_by_the_formula(causal: bool) -> None:
    """Before torch 2.0 there is no function of that name, and a model is measured all the same."""
    import torch

    older = SimpleNamespace(nn=SimpleNamespace(functional=SimpleNamespace()), ones=torch.ones, bool=torch.bool)
    states = [torch.randn(2, 3, 5, 8) for _ in range(3)]
    expected = vit.attend(torch, *states, causal=causal)
    assert torch.allclose(expected, vit.attend(older, *states, causal=causal), atol=1e-6)


def test_checkpointing_is_imported_where_torch_has_not_done_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """``import torch`` alone brings it in some versions and not in others."""
    import torch

    monkeypatch.delattr(torch.utils, "checkpoint")
    monkeypatch.delitem(sys.modules, "torch.utils.checkpoint")
    step = Step(cpu(), tiny(), 2, Settings(checkpointing=True))
    step()
    assert torch.isfinite(step.loss)


def test_checkpointing_changes_memory_and_not_the_gradient() -> None:
    """Blocks that are computed again give the same gradients."""
    import torch

    torch.manual_seed(1)
    model = vit.vit(torch, width=24, depth=2, heads=2, size=32)
    images = torch.randn(2, 3, 32, 32)
    gradients = []
    for model.checkpointing in (False, True):
        model.zero_grad()
        model(images).square().mean().backward()
        gradients.append(model.blocks[0].up.weight.grad.clone())
    assert torch.allclose(*gradients)


def test_an_unknown_model_is_named_with_those_there_are() -> None:
    """The words list what can be measured."""
    import torch

    with pytest.raises(NotThere, match="no model is called 'vit_b17', expected one of vit_b16"):
        find(torch, "vit_b17", on_gpu=False)


@pytest.mark.parametrize("name", FROM_LIBRARIES)
def test_a_model_of_a_library_that_is_not_there_says_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither torchvision nor timm: absent, with the words of both."""
    import torch

    for each in ("torchvision", "timm"):
        monkeypatch.setitem(sys.modules, each, None)
    with pytest.raises(NotThere, match=f"{name} comes from torchvision or timm, and neither can be used here"):
        find(torch, name, on_gpu=False)


def test_a_model_of_a_library_is_made_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torchvision's where it is there, else timm's; the origin says whose it is."""
    import types

    import torch

    made = types.SimpleNamespace(models=types.SimpleNamespace(resnet50=lambda weights: ("torchvision", weights)))
    timm = types.SimpleNamespace(create_model=lambda name, pretrained: (name, pretrained))
    monkeypatch.setitem(sys.modules, "torchvision", made)
    monkeypatch.setitem(sys.modules, "timm", timm)
    theirs = find(torch, "resnet50", on_gpu=False)
    assert ("torchvision", ("torchvision", None)) == (theirs.origin, theirs.make())
    monkeypatch.setitem(sys.modules, "torchvision", None)
    other = find(torch, "swin_t", on_gpu=False)
    assert ("timm", ("swin_tiny_patch4_window7_224", False)) == (other.origin, other.make())


# Training steps


def cpu() -> Any:
    """Give the CPU as a place."""
    import torch
    from envdoctor_probes.bench.place import Cpu

    return Cpu(torch, torch.device("cpu"), 4 << 30)


CHANGES: list[dict[str, Any]] = [
    {}, {"amp": "bf16"}, {"fused": True}, {"channels_last": True}, {"attention": "math"}, {"attention": "weights"},
    {"deterministic": True}, {"checkpointing": True}, {"fp32": "ieee"},
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: "-".join(map(str, change)) or "default")
def test_a_step_trains_and_leaves_torch_as_it_was(change: dict[str, Any]) -> None:
    """Each change learns: the loss of the batches goes down; afterwards every setting is what it was before."""
    import torch

    before = _settings(torch)
    step = Step(cpu(), tiny(), 2, Settings(**change))
    with step.settings_on():
        step.prepare()
        losses = []
        for _ in range(8):
            step()
            losses.append(float(step.loss.detach()))
    assert losses[-1] + losses[-2] < losses[0] + losses[1]
    assert before == _settings(torch)


def _settings(torch: Any) -> tuple[Any, ...]:
    backends = torch.backends
    return (
        torch.are_deterministic_algorithms_enabled(), backends.cudnn.deterministic, backends.cudnn.benchmark,
        backends.cuda.flash_sdp_enabled(), backends.cuda.math_sdp_enabled(), backends.cuda.matmul.fp32_precision,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fp32": "tf32"}, "TF32 is for GPUs"),
        ({"amp": "fp16"}, "a gradient scaler is for GPUs"),
        ({"graph": True}, "a CUDA graph is for GPUs"),
        ({"inputs": "pinned"}, "a CPU has no copies from host to device"),
    ],
)
def test_what_a_cpu_does_not_have_is_said(change: dict[str, Any], words: str) -> None:
    """The words say what it is for."""
    assert words == why_not(cpu(), tiny(), Settings(**change))


def test_what_a_model_does_not_have_is_said() -> None:
    """Only blocks of ours can be switched, and only images have a memory format."""
    import torch

    block = find(torch, "llama_block", on_gpu=False)
    assert "llama_block has no blocks of ours that could be switched" == why_not(
        cpu(), block, Settings(checkpointing=True)
    )
    assert why_not(cpu(), block, Settings(channels_last=True)).startswith("llama_block takes no images")


def in_groups() -> Recipe:
    """Give a model of a dense, a transposed and two grouped convolutions, as ConvNeXt and ResNeXt have them."""
    import torch

    def make() -> Any:
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 16, 4, 4), torch.nn.Conv2d(16, 16, 7, padding=3, groups=16),
            torch.nn.Conv2d(16, 32, 3, stride=2, groups=4), torch.nn.ConvTranspose2d(32, 8, 2, 2),
            torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        )  # fmt: skip

    return Recipe(
        "grouped", "yours", make, lambda batch: ((torch.randn(batch, 3, 32, 32),), torch.zeros(batch).long()),
        torch.nn.functional.cross_entropy, layout=True,
    )  # fmt: skip


def test_convolutions_in_groups_are_counted_for_what_they_compute() -> None:
    """Twice the forward pass, less the gradient of the images that nobody wants: torch's own count is far above."""
    import torch

    recipe = in_groups()
    forward, train, why = count(torch, recipe, recipe.make())
    first = 2 * 8 * 8 * 16 * 3 * 4 * 4
    assert "" == why
    assert forward == first + 2 * 8 * 8 * 16 * 49 + 2 * 3 * 3 * 32 * 4 * 9 + 2 * 3 * 3 * 32 * 8 * 4
    assert train == 3 * forward - first


# Parameters as the libraries publish them; FLOPs as torch counts them, less what it counts twice for groups.
FROM_ELSEWHERE = {
    "resnet50": (25_557_032, 8_178_368_512, 24_299_077_632),
    "swin_t": (28_288_354, 8_981_133_312, 26_914_498_560),
    "convnext_t": (28_589_128, 8_911_062_528, 26_704_286_208),
}


@pytest.mark.parametrize("name", FROM_ELSEWHERE)
def test_a_librarys_model_has_the_published_size(name: str) -> None:
    """Where torchvision or timm is here: its parameters, and FLOPs to the last digit."""
    import torch

    try:
        recipe = find(torch, name, on_gpu=False)
    except NotThere as why:
        pytest.skip(str(why))
    model = recipe.make()
    found = sum(each.numel() for each in model.parameters()), *count(torch, recipe, model)[:2]
    assert FROM_ELSEWHERE[name] == found


def test_only_a_model_that_calls_torchs_attention_has_a_row_for_it() -> None:
    """Convolutions have none; our own blocks, torch's MultiheadAttention and a direct call do."""
    import torch

    class Direct(torch.nn.Module):
        def forward(self, images: Any) -> Any:
            return torch.nn.functional.scaled_dot_product_attention(images, images, images)

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.MultiheadAttention(32, 2)

        def forward(self, images: Any) -> Any:
            return self.layer(images[:, 0], images[:, 0], images[:, 0])[0]

    recipe = in_groups()
    assert [False, True, True] == [
        attends(torch, dataclasses.replace(recipe, make=make)) for make in (recipe.make, Direct, Layer)
    ]
    assert attends(torch, tiny())


# The user's own

OWN = """
import torch

def lazy():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 16, 16), torch.nn.Flatten(), torch.nn.LazyLinear(5))

def small():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 2, 56, 56), torch.nn.Flatten(), torch.nn.Linear(32, 5))

def with_inputs():
    return torch.nn.Linear(8, 2), torch.randn(3, 8)

class Named(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 2)
    def forward(self, ids, mask=None):
        return {"loss": self.layer(ids).square().mean(), "logits": None}

def named(batch):
    return Named(), {"ids": torch.randn(batch, 8), "mask": None}

class Holder:
    make = staticmethod(small)

def raises():
    raise LookupError("no weights here")

def leaves():
    raise SystemExit(3)

def gives_text():
    return "a model"

def gives_no_tensor():
    return torch.nn.Linear(8, 2), "inputs"

class Frozen(torch.nn.Module):
    def forward(self, images):
        return images.mean()

def frozen():
    return Frozen()

class Silent(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(224, 1)
    def forward(self, images):
        return "nothing"

def silent():
    return Silent()

class NotANumber(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(224, 1)
    def forward(self, images):
        return self.layer(images) * float("nan")

def nan():
    return NotANumber()

not_callable = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put a module with users' models on the path."""
    (tmp_path / "own_models.py").write_text(OWN)
    (tmp_path / "own_broken.py").write_text("import does_not_exist_anywhere\n")
    (tmp_path / "own_leaves.py").write_text("raise SystemExit('bye')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("own_models", None)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("own_models:raises", "own_models:raises raised LookupError: no weights here"),
        ("own_models:leaves", "own_models:leaves raised SystemExit: 3"),
        ("own_models:gives_text", "own_models:gives_text gave str, expected a torch.nn.Module"),
        ("own_models:gives_no_tensor", "gave inputs without a tensor: str"),
        ("own_models:missing", "own_models has no callable 'missing'; it has Frozen, Holder"),
        ("own_models:not_callable", "own_models has no callable 'not_callable'"),
        ("own_broken:make", "own_broken of 'own_broken:make' cannot be imported: ModuleNotFoundError"),
        ("own_leaves:make", "cannot be imported: SystemExit: bye"),
        ("no_such_module_at_all:make", "cannot be imported: ModuleNotFoundError"),
    ],
)
def test_what_is_no_model_is_said(name: str, words: str) -> None:
    """Every way to be wrong has its own words."""
    import torch

    with pytest.raises(Unusable) as caught:
        find(torch, name, on_gpu=False)
    assert words in str(caught.value)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "batch", "sample"),
    [
        ("small", 2, "image"),
        ("with_inputs", 3, "sample"),
        ("named", 2, "sample"),
        ("Holder.make", 2, "image"),
        ("lazy", 2, "image"),
    ],
)
def test_a_users_model_is_measured(name: str, batch: int, sample: str) -> None:
    """A module for images, a pair with inputs, named arguments with a loss of their own, an attribute of a class."""
    fact = run("model", model=f"own_models:{name}", batch=2)
    assert (f"own_models:{name}", "yours", sample, batch) == (fact.model, fact.origin, fact.sample, fact.batch)
    assert "counted" == fact.flops_source
    (step,) = (each for each in fact.measured if each.name == "train-step")
    assert ("measured", True, float(batch), sample) == (step.state, step.correct, step.work, step.work_unit)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "state", "words"),
    [
        ("frozen", "not-applicable", "own_models:frozen has no parameter that could be trained"),
        ("silent", "failed", "Unusable: its output (str) holds no tensor that a gradient could flow from"),
    ],
)
def test_a_users_model_that_cannot_be_trained_says_why(name: str, state: str, words: str) -> None:
    """The step has a state and words, and the rest is measured all the same."""
    fact = run("model", model=f"own_models:{name}", batch=2)
    (step,) = (each for each in fact.measured if each.name == "train-step")
    assert (state, words) == (step.state, step.reason)


@pytest.mark.usefixtures("own")
def test_a_model_whose_loss_is_no_number_is_wrong_and_timed() -> None:
    """Not a number is not correct, and is no crash."""
    fact = run("model", model="own_models:nan", batch=1)
    (step,) = (each for each in fact.measured if each.name == "train-step")
    assert ("measured", False) == (step.state, step.correct)


def test_a_batch_is_chosen_by_what_the_user_said_first() -> None:
    """The user's number, else what suits the device."""
    from envdoctor_probes.bench.sizes import usual_batch

    assert [3, 1] == [usual_batch(cpu(), tiny(), Wanted(batch=each)) for each in (3, None)]
