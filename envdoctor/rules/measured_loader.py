"""The loader, measured: whether it keeps up with the training step, and the disk below it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from envdoctor.facts.bench import (
    BenchClocks,
    BenchDevice,
    BenchLadder,
    BenchLoader,
    BenchModel,
    Measured,
)
from envdoctor.finding import Command, Confidence, Evidence, Finding, Fix, Safety, Severity, see
from envdoctor.rule import NotApplicable, Unknown, rule
from envdoctor.rules.measuring import again, amount

LOADER_KEEPS_UP = 0.95
IMAGE = "image"


@rule(
    severity=Severity.WARNING,
    group="measured",
    explained_by=("disk-or-dataset-slow", "cgroup-cpu-limit-below-workers", "omp-threads-oversubscription",
                  "shm-too-small"),
)  # fmt: skip
def loader_bound(
    device: BenchDevice,
    loader: BenchLoader,
    ladder: BenchLadder | None,
    model: BenchModel | None,
    clocks: BenchClocks | None,
) -> Iterator[Finding]:
    """Images come more slowly from the loader than the GPU trains on them.

    ## What it means
    The best number of workers that was measured gives fewer images a second than the training step takes.

    ## Why it matters
    The GPU idles. No change to model, precision or kernels makes training faster: in one published case the loader
    alone was worth a factor of 5 on 8 GPUs.

    ## How it is detected
    Images a second from files to batches, for each number of workers, against the fastest training step, both
    measured here. Several GPUs on one host share its loader. A model of sequences needs no images: there it does not
    apply.

    ## What to do
    Raise the number of workers up to the CPUs of this container, decode on the GPU (DALI), store the images smaller, or
    keep them on a local disk.

    ## Sources
    https://docs.pytorch.org/docs/stable/data.html
    """
    if device.kind != "cuda":
        raise NotApplicable("a CPU was measured: it loads and trains with the same cores")
    step, best = _training_step(device, ladder, model, clocks), _best_loader(loader)
    if step is not None and step.work_unit != IMAGE:
        raise NotApplicable(f"the loader gives images, and the model trains on {step.work_unit}s")
    speed = _images_of(step)
    if speed is None or best is None:
        raise Unknown("the loader and a training step were not both measured")
    measured, images = best
    if images >= LOADER_KEEPS_UP * speed:
        return
    workers = measured.config.get("workers", "?")
    yield Finding(
        f"The loader gives {amount(images)} images/s, the GPU trains on {amount(speed)}",
        f"With {workers} workers on {loader.cpus or '?'} CPUs the GPU works {images / speed:.0%} of the time at most.",
        (*_sweep(loader), see(loader, "cpus", "CPUs of this process")),
        (_more_workers(loader),),
    )


def _training_step(
    device: BenchDevice, ladder: BenchLadder | None, model: BenchModel | None, clocks: BenchClocks | None
) -> Measured | None:
    """Give the fastest training step that was measured."""
    from envdoctor.bench import training
    from envdoctor.bench.ladder import fastest, rungs
    from envdoctor.bench.machine import machine_of
    from envdoctor.bench.rates import rate_of

    top = fastest(rungs(machine_of(device, clocks), ladder)) if ladder else None
    steps = training.main_steps(model) if model else []
    return top.row.measured if top else max(steps, key=lambda each: rate_of(each).value or 0.0, default=None)


def _images_of(step: Measured | None) -> float | None:
    """Give the images a second of a step; None of one that takes sequences, or other samples."""
    from envdoctor.bench.rates import rate_of

    return rate_of(step).value if step and step.work_unit == IMAGE else None


def _best_loader(loader: BenchLoader) -> tuple[Measured, float] | None:
    from envdoctor.bench.rates import rate_of

    rates = [(each, rate_of(each).value) for each in loader.measured if each.name.startswith("loader")]
    known = [(each, value) for each, value in rates if value]
    return max(known, key=lambda each: each[1], default=None)


def _part(loader: BenchLoader, name: str) -> float | None:
    """Give images a second of one part alone: ``read`` or ``decode``, one after the other in one process."""
    from envdoctor.bench.rates import rate_of

    return next((rate_of(each).value for each in loader.measured if each.name == name), None)


def _sweep(loader: BenchLoader) -> tuple[Evidence, ...]:
    from envdoctor.bench.rates import rate_of

    return tuple(
        see(loader, "measured", f"{each.config.get('workers', '?')} workers, {each.config.get('decoder', each.name)}",
            amount(rate_of(each).value, "images/s"))
        for each in loader.measured
        if each.name.startswith("loader") and each.seconds
    )  # fmt: skip


def _more_workers(loader: BenchLoader) -> Fix:
    line = f"DataLoader(..., num_workers={loader.cpus or 8}, pin_memory=True, persistent_workers=True)"
    verify = again("ladder", "loader")
    return Fix(
        "Give the loader every CPU that this process has",
        (Command(None, f"# in your program:  {line}"),),
        Safety.SAFE,
        "your program",
        verify=verify,
    )


@rule(severity=Severity.WARNING, group="measured")
def disk_or_dataset_slow(
    device: BenchDevice,
    loader: BenchLoader,
    ladder: BenchLadder | None,
    model: BenchModel | None,
    clocks: BenchClocks | None,
) -> Iterator[Finding]:
    """Reading the data set's files takes longer than decoding them.

    ## What it means
    The images of the folder that was named come more slowly from storage than one CPU decodes them: workers wait for
    the disk or the network, not for the CPU.

    ## Why it matters
    More workers then help only as far as storage serves several readers at once. Many small files on a network file
    system are the usual case.

    ## How it is detected
    Reading alone and decoding alone, each in one process, on your own files ("envdoctor bench --suite loader --data
    DIR"). It fires when reading is the slower one and the best loader does not keep up with the training step, where
    one was measured. Images made on the spot lie in memory and tell nothing of a disk. Files that were read a moment
    ago lie there as well: the first run after a restart tells most.

    ## What to do
    Copy the data set to a local disk, or pack it into few large files (WebDataset, TFRecord, LMDB).

    ## Sources
    https://docs.pytorch.org/docs/stable/data.html
    """
    if loader.made_here is not False:
        raise NotApplicable("no data set was named (--data DIR): images made on the spot lie in memory")
    read, decode, best = _part(loader, "read"), _part(loader, "decode"), _best_loader(loader)
    if read is None or decode is None:
        raise Unknown("reading alone and decoding alone were not both measured")
    speed = _images_of(_training_step(device, ladder, model, clocks))
    if read >= decode or (speed is not None and best is not None and best[1] >= LOADER_KEEPS_UP * speed):
        return
    where = loader.folder or "DIR"
    verify = f"envdoctor bench --suite ladder,loader --data {shlex.quote(where)}"
    evidence = (
        see(loader, "measured", "reading alone", amount(read, "images/s")),
        see(loader, "measured", "decoding alone, one CPU", amount(decode, "images/s")),
        see(loader, "mean_bytes", "bytes of an image, on average"),
        *((see(loader, "measured", "the best loader", amount(best[1], "images/s")),) if best else ()),
    )
    fix = Fix(
        "Bring the data nearer: copy it to a local disk",
        (Command(None, f"df -hT {shlex.quote(where)}"), Command(None, f"rsync -a {shlex.quote(where)} /local/disk/")),
        Safety.SAFE,
        "a local disk's space",
        verify=verify,
    )
    yield Finding(
        f"Reading a file takes {decode / read:.1f} times as long as decoding it",
        "",
        evidence,
        (fix,),
        confidence=Confidence.CERTAIN if speed is not None else Confidence.LIKELY,
    )


RULES = (loader_bound, disk_or_dataset_slow)
