"""[payload] bench-loader: how many images a second the host can hand over, by the number of workers."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Dict, Iterator, Optional, Tuple

from envdoctor.facts.bench import BenchLoader
from envdoctor.probe import Context, probe
from envdoctor_probes.bench.dali import dali, dali_work
from envdoctor_probes.bench.decoding import SIZE, Batches, Images, decoder, pillow
from envdoctor_probes.bench.jpegs import Folder, found_in, made_in
from envdoctor_probes.bench.place import Cpu, choose
from envdoctor_probes.bench.stopping import Rule
from envdoctor_probes.bench.suite import NotApplicable, Suite, Task, Work
from envdoctor_probes.bench.wanted import Wanted
from envdoctor_probes.resources import resources

__all__ = ["bench_loader", "worker_counts"]

MIB = 1 << 20
_BATCH, _CPU_BATCH = 64, 16
_RULE = Rule(least=5, seconds=1.5, spread=None, most_seconds=20.0)
_READ_AT_ONCE = 32
_PREFETCHED = 2  # batches a worker loads ahead, unless one says otherwise
_MOST_WORKERS = 64


@probe(level="deep", child="torch", seconds=110.0)
def bench_loader(context: Context) -> BenchLoader:
    """Read, decode alone, then load with more and more workers; DALI at last."""
    wanted = Wanted.of(context.options)
    pil = pillow()
    import torch

    place = Cpu(torch, torch.device("cpu"), 1 << 62)
    with _folder(wanted, pil, context) as folder:
        loading = Loading(context, place, wanted, folder, pil)
        loading.measure()
        fact: BenchLoader = loading.suite.fact
    return fact


@contextlib.contextmanager
def _folder(wanted: Wanted, pil: Any, context: Context) -> Iterator[Folder]:
    """Give the user's folder, or one of our own that is gone afterwards."""
    import tempfile

    if wanted.images:
        with context.calling(f"loader: looking into {wanted.images}"):
            found = found_in(wanted.images, pil)
        yield found
        return
    with tempfile.TemporaryDirectory(prefix="envdoctor-images-") as path:
        with context.calling("loader: making images"):
            made = made_in(path, pil)
        yield made


def worker_counts(cpus: int) -> Tuple[int, ...]:
    """Give the numbers of workers to try: none, then doubled up to the CPUs that may be used."""
    found = [0]
    number = 1
    while number < min(cpus, _MOST_WORKERS):
        found.append(number)
        number *= 2
    return (*found, min(max(1, cpus), _MOST_WORKERS))


@dataclass(frozen=True)
class Limits:
    """What the loader lives under."""

    cpus: int
    shm_bytes: Optional[int]
    shm_free_bytes: Optional[int]


def limits(context: Context) -> Limits:
    """Read CPUs and shared memory."""
    found = resources.collect(context)
    cpus = [each for each in (found.cpus_affinity, found.cpus_cgroup_limit) if each]
    sizes = [None if each is None else each * MIB for each in (found.shm_total_mib, found.shm_free_mib)]
    return Limits(max(1, int(min(cpus, default=1))), sizes[0], sizes[1])


class Loading:
    """The suite under way."""

    def __init__(self, context: Context, place: Cpu, wanted: Wanted, folder: Folder, pil: Any) -> None:
        self._torch, self._folder, self._context, self._wanted = place.torch, folder, context, wanted
        self._limits = limits(context)
        self._decoder, self._decode = decoder(place.torch, pil)
        self._gpu = wanted.device != "cpu" and place.torch.version.cuda is not None
        self._batch = wanted.batch or (_BATCH if self._gpu else _CPU_BATCH)
        self._unread = 0
        self.suite = Suite("loader", context, place, wanted, self._answer)

    def _answer(self, suite: Suite) -> BenchLoader:
        folder, module = self._folder, dali()[0]
        return BenchLoader(
            measured=tuple(suite.measured), folder=folder.path, made_here=folder.made_here,
            images=len(folder.files), mean_bytes=folder.mean_bytes, mean_width=folder.mean_width,
            mean_height=folder.mean_height, cpus=self._limits.cpus, shm_bytes=self._limits.shm_bytes,
            shm_free_bytes=self._limits.shm_free_bytes, batch_bytes=self._batch_bytes,
            dali_version=None if module is None else str(module.__version__),
        )  # fmt: skip

    def measure(self) -> None:
        """Measure each way from files to batches."""
        counts = worker_counts(self._limits.cpus)
        tasks = [self._task("read", self._read), self._task("decode", self._decode_alone, decoder=self._decoder)]
        for workers in counts:
            config = {"workers": str(workers), "decoder": self._decoder, "batch": str(self._batch)}
            tasks.append(self._task("loader", lambda n=workers: self._load(n), **config))
        config = {"workers": str(self._limits.cpus), "decoder": "DALI", "batch": str(self._batch)}
        tasks.append(self._task("loader-dali", self._load_with_dali, **config))
        for number, task in enumerate(tasks):
            why = self._no_shared_memory(int(task.config.get("workers", "0"))) if task.name == "loader" else ""
            if why:
                self.suite.keep(task, "refused", why)
            else:
                self.suite.measure(task, len(tasks) - number)

    def _no_shared_memory(self, workers: int) -> str:
        """Say that the workers' batches do not fit into shared memory: they would die of it with "Bus error"."""
        free = self._limits.shm_free_bytes
        needs = _PREFETCHED * workers * self._batch_bytes
        if free is None or needs <= free:
            return ""
        return (
            f"its batches need {needs / MIB:,.0f} MiB of shared memory, and {free / MIB:,.0f} MiB are free in /dev/shm"
        )

    @property
    def _batch_bytes(self) -> int:
        return self._batch * 3 * SIZE * SIZE * 4

    @staticmethod
    def _task(name: str, prepare: Any, **config: str) -> Task:
        return Task(name, prepare, dict(config), "", rule=_RULE)

    def _read(self) -> Work:
        """Read files as they lie in storage: each once, while there are such; ours are in the page cache anyhow."""

        def run() -> None:
            for _ in range(_READ_AT_ONCE):
                with open(self._folder.files[self._unread % len(self._folder.files)], "rb") as file:
                    file.read()
                self._unread += 1

        return Work(run, _READ_AT_ONCE, "image", flush=False, unbroken=True)

    def _decode_alone(self) -> Work:
        """Decode in this process, one after the other: what one CPU can do."""
        images, state = Images(self._folder.files, self._decode), [0]

        def run() -> None:
            images[state[0] % len(images)]
            state[0] += 1

        return Work(run, 1, "image", within=self._one_thread, flush=False, unbroken=True)

    @contextlib.contextmanager
    def _one_thread(self) -> Iterator[None]:
        """Compute with one thread, as a worker does."""
        before = self._torch.get_num_threads()
        self._torch.set_num_threads(1)
        try:
            yield
        finally:
            self._torch.set_num_threads(before)

    def _load(self, workers: int) -> Work:
        """Load batches; with workers a sample is as many batches as there are workers, since they come in bursts."""
        at_once = max(1, workers)
        options: Dict[str, Any] = {"num_workers": workers}
        if workers and "fork" in self._torch.multiprocessing.get_all_start_methods():
            options["multiprocessing_context"] = "fork"  # Python 3.14 would pickle the decoder, and fail
        data = Images(self._folder.files, self._decode)
        loader = self._torch.utils.data.DataLoader(
            data, batch_sampler=Batches(len(data), self._batch), **options
        )  # fmt: skip
        batches = iter(loader)
        for _ in range(_PREFETCHED * workers):  # what was loaded ahead came for nothing
            next(batches)

        def run() -> None:
            for _ in range(at_once):
                next(batches)

        return Work(run, at_once * self._batch, "image", self._check(batches), flush=False, unbroken=True)

    def _check(self, batches: Any) -> Any:
        def check() -> Tuple[bool, Optional[float]]:
            images, _ = next(batches)
            return tuple(images.shape) == (self._batch, 3, SIZE, SIZE) and bool(images.std() > 0.1), None

        return check

    def _load_with_dali(self) -> Work:
        module, why = dali()
        if module is None:
            raise NotApplicable(why)
        device = choose(self._context, self._wanted).device.index
        return dali_work(self._folder.files, self._batch, self._limits.cpus, device)
