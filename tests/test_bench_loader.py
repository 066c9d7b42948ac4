"""The loader: images like ImageNet's made on the spot, the user's own, and what happens without Pillow or memory."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing.context
import random
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from envdoctor_probes.bench import decoding, jpegs, loader
from envdoctor_probes.bench.dali import dali, dali_work
from envdoctor_probes.bench.jpegs import Folder
from envdoctor_probes.bench.loader import worker_counts
from envdoctor_probes.bench.place import Cpu
from envdoctor_probes.bench.suite import NotApplicable
from envdoctor_probes.bench.wanted import Wanted

from envdoctor.facts.bench import BenchLoader
from envdoctor.probe import NotThere
from tests.bench_stand import NEEDS_TORCH, context, no_limit, run

pytestmark = [*NEEDS_TORCH, pytest.mark.usefixtures("no_limit")]
__all__ = ["no_limit"]


@pytest.fixture
def pil() -> Any:
    """Give Pillow, or skip."""
    pytest.importorskip("PIL.Image")
    return importlib.import_module("PIL.Image")


def test_without_pillow_the_loader_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The words say what decodes images, and why it is not there."""
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(NotThere, match="images are decoded with Pillow, which cannot be imported here"):
        run("loader")


def test_images_are_like_imagenets(pil: Any, tmp_path: Path) -> None:
    """About 110 KB and 500 x 375 pixels: a decoder has as much to do as with real ones."""
    made = jpegs.made_in(str(tmp_path), pil, count=12)
    assert (12, True) == (len(made.files), made.made_here)
    assert 60_000 < made.mean_bytes < 160_000
    assert 400 < made.mean_width < 550
    assert 300 < made.mean_height < 450


def test_the_loader_is_measured_by_the_number_of_workers(
    pil: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Reading, decoding alone, and batches with each number of workers; the images are gone afterwards."""
    monkeypatch.setattr(jpegs, "COUNT", 8)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fact = run("loader", batch=4)
    assert isinstance(fact, BenchLoader)
    assert pil is not None
    found = [(each.name, each.config.get("workers"), each.state) for each in fact.measured]
    assert [("read", None, "measured"), ("decode", None, "measured"), ("loader", "0", "measured")] == found[:3]
    with_workers = [each for each in fact.measured if each.name == "loader" and each.config["workers"] != "0"]
    assert with_workers
    assert all(each.correct and each.work == 4 * int(each.config["workers"]) for each in with_workers if each.seconds)
    assert ("loader-dali", "not-applicable") == (fact.measured[-1].name, fact.measured[-1].state)
    assert (True, 4 * 3 * 224 * 224 * 4) == (fact.made_here, fact.batch_bytes)
    assert [] == list(tmp_path.iterdir())


class Picture:
    """An image as far as a decoder asks it."""

    size = (320, 240)

    def convert(self, _mode: str) -> Picture:
        """Be RGB already."""
        return self

    def resize(self, size: tuple[int, int], _how: int, *, box: Any) -> Picture:
        """Be of that size."""
        assert box
        self.size = size
        return self

    def tobytes(self) -> bytes:
        """Give its pixels."""
        return bytes(range(256)) * (3 * self.size[0] * self.size[1] // 256)


def test_workers_are_forked_whatever_this_python_starts_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.14 asks a server for new processes: what is measured here would have to be pickled, and cannot be."""
    import torch

    usual = multiprocessing.context._default_context
    monkeypatch.setattr(usual, "_actual_context", multiprocessing.get_context("forkserver"))
    monkeypatch.setitem(sys.modules, "torchvision.transforms", None)
    pil = types.SimpleNamespace(open=lambda _file: contextlib.nullcontext(Picture()))
    folder = Folder("/nowhere", ("a.jpg", "b.jpg"), made_here=True)
    loading = loader.Loading(context(), Cpu(torch, "cpu", 1), Wanted(device="cpu", batch=2), folder, pil)
    work = loading._load(1)
    assert work.check is not None
    assert (True, None) == work.check()
    work.operation()


def test_workers_whose_batches_do_not_fit_into_shared_memory_are_not_started(
    pil: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker's 64 MiB hold one worker's batches of 16 images, not eight workers': those would die with "Bus error"."""
    import torch

    given = loader.Limits(8, 64 << 20, 64 << 20)
    monkeypatch.setattr(loader, "limits", lambda _context: given)
    folder = Folder(str(tmp_path), (), made_here=True)
    loading = loader.Loading(context(), Cpu(torch, "cpu", 1), Wanted(device="cpu"), folder, pil)
    words = "its batches need 147 MiB of shared memory, and 64 MiB are free in /dev/shm"
    assert ["", "", words] == [loading._no_shared_memory(workers) for workers in (0, 1, 8)]
    started: list[str] = []
    monkeypatch.setattr(loading.suite, "measure", lambda task, _parts: started.append(task.config.get("workers", "")))
    loading.measure()
    refused = {each.config["workers"]: each.state for each in loading.suite.measured}
    assert {"4": "refused", "8": "refused"} == refused
    assert ["0", "1", "2"] == [each for each in started[2:] if each != "8"]


def test_the_users_images_are_found_and_stay(pil: Any, tmp_path: Path) -> None:
    """Below a folder, whatever else lies there; a broken file does not count in the means."""
    deep = tmp_path / "train" / "n01440764"
    deep.mkdir(parents=True)
    jpegs.photograph(pil, (320, 240), random.Random(1)).save(deep / "a.JPEG")
    (deep / "b.jpg").write_bytes(b"no image")
    (deep / "notes.txt").write_text("x")
    found = jpegs.found_in(str(tmp_path), pil)
    assert (2, False, 320, 240) == (len(found.files), found.made_here, found.mean_width, found.mean_height)
    assert (deep / "b.jpg").exists()


@pytest.mark.parametrize(("name", "words"), [("missing", "is no folder"), ("", "has no image")])
def test_a_folder_without_images_says_so(pil: Any, tmp_path: Path, name: str, words: str) -> None:
    """The words tell a folder that is not there from one that holds none."""
    with pytest.raises(NotThere, match=words):
        jpegs.found_in(str(tmp_path / name), pil)


def test_a_broken_image_fails_the_loader_in_words(pil: Any, tmp_path: Path) -> None:
    """What the user's own training would die of is a state here."""
    (tmp_path / "a.jpg").write_bytes(b"no image")
    fact = run("loader", images=str(tmp_path), batch=2)
    failed = [each for each in fact.measured if each.name in ("decode", "loader") and each.state != "skipped"]
    assert pil is not None
    assert {"failed"} == {each.state for each in failed}
    assert "UnidentifiedImageError" in failed[0].reason


def test_torchvisions_transforms_are_used_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """As everybody's script has them; a torchvision that cannot be imported leaves the same in plain torch."""
    import torch

    named = ("RandomResizedCrop", "RandomHorizontalFlip", "ToTensor", "Normalize", "Compose")
    made = types.SimpleNamespace(**dict.fromkeys(named, lambda *each: each))
    monkeypatch.setitem(sys.modules, "torchvision.transforms", made)
    monkeypatch.setitem(sys.modules, "torchvision", types.SimpleNamespace(transforms=made))
    assert "PIL+torchvision" == decoding.decoder(torch, None)[0]
    monkeypatch.setitem(sys.modules, "torchvision.transforms", None)
    assert "PIL+torch" == decoding.decoder(torch, None)[0]


def test_a_decoded_image_is_a_training_image(pil: Any, tmp_path: Path) -> None:
    """Three channels of 224 x 224, normalised."""
    import torch

    file = tmp_path / "a.jpg"
    jpegs.photograph(pil, (320, 240), random.Random(1)).save(file)
    image = decoding.plain(torch, pil)(str(file))
    assert ((3, 224, 224), torch.float32) == (tuple(image.shape), image.dtype)
    assert -3 < float(image.min()) < float(image.max()) < 3


def test_a_crop_lies_in_the_image() -> None:
    """Whatever the dice say."""
    for _ in range(300):
        left, top, right, bottom = decoding.crop(500, 375)
        assert (True, True) == (0 <= left < right <= 500.001, 0 <= top < bottom <= 375.001)


@pytest.mark.parametrize(
    ("cpus", "counts"), [(1, (0, 1)), (2, (0, 1, 2)), (6, (0, 1, 2, 4, 6)), (128, (0, 1, 2, 4, 8, 16, 32, 64))]
)
def test_workers_are_doubled_up_to_the_cpus(cpus: int, counts: tuple[int, ...]) -> None:
    """And not beyond what a machine can use."""
    assert counts == worker_counts(cpus)


def test_without_dali_it_does_not_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    """The words are the import's."""
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    module, why = dali()
    assert (None, True) == (module, why.startswith("DALI cannot be imported here"))
    with pytest.raises(NotApplicable, match="DALI cannot be imported here"):
        dali_work(("a.jpg",), 2, 1, None)


def test_dali_is_asked_for_what_its_examples_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader of the files, a decoder where the device is, resize and normalisation; a run is one batch."""
    called: list[tuple[str, dict[str, Any]]] = []

    class Pipeline:
        def __init__(self, **how: Any) -> None:
            called.append(("Pipeline", how))

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

        def set_outputs(self, *outputs: Any) -> None:
            called.append(("outputs", {"count": len(outputs)}))

        def build(self) -> None:
            called.append(("build", {}))

        def run(self) -> str:
            return "a batch"

    def noting(name: str, answer: Any) -> Any:
        def note(*_: Any, **how: Any) -> Any:
            called.append((name, how))
            return answer

        return note

    fn = types.SimpleNamespace(
        readers=types.SimpleNamespace(file=noting("file", ("bytes", "labels"))),
        decoders=types.SimpleNamespace(image_random_crop=noting("decode", "images")),
        resize=noting("resize", "images"), crop_mirror_normalize=noting("normalize", "images"),
        random=types.SimpleNamespace(coin_flip=noting("coin", 1)),
    )  # fmt: skip
    module = types.SimpleNamespace(Pipeline=Pipeline, fn=fn, types=types.SimpleNamespace(RGB=0, FLOAT=1))
    for name, value in (("nvidia", types.SimpleNamespace(dali=module)), ("nvidia.dali", module),
                        ("nvidia.dali.fn", fn), ("nvidia.dali.types", module.types)):  # fmt: skip
        monkeypatch.setitem(sys.modules, name, value)
    work = dali_work(("a.jpg", "b.jpg"), 2, 3, 0)
    assert {"batch_size": 2, "num_threads": 3, "device_id": 0, "seed": 11} == dict(called)["Pipeline"]
    assert (["a.jpg", "b.jpg"], "mixed") == (dict(called)["file"]["files"], dict(called)["decode"]["device"])
    assert ("a batch", 2) == (work.operation(), work.amount)
