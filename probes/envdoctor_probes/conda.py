"""[payload] What conda installed into a prefix: conda-meta/*.json, by file name and by the first lines alone."""

from __future__ import annotations

import os
import re
from typing import NamedTuple, Tuple

from envdoctor_probes.metadata import normalise, read_text

HEAD_BYTES = 8192  # the keys are sorted: "channel" comes long before the list of files


class CondaPackage(NamedTuple):
    """One package of conda; ``build`` is its build string, such as ``py3.11_cuda12.1_cudnn8.9.2_0``."""

    name: str
    version: str
    build: str
    channel: str
    record: str


def read_names(prefix: str) -> Tuple[CondaPackage, ...]:
    """Give the packages of this prefix by name, from file names alone; none when it is no conda environment."""
    folder = os.path.join(prefix, "conda-meta")
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return ()
    return tuple(_parse(folder, name) for name in names if name.endswith(".json") and name.count("-") >= 2)


def read_conda(prefix: str) -> Tuple[CondaPackage, ...]:
    """Give the packages of this prefix with their channels, for which each record's first lines are read."""
    return tuple(
        each._replace(channel=parse_channel(read_text(each.record, HEAD_BYTES) or "")) for each in read_names(prefix)
    )


def _parse(folder: str, file_name: str) -> CondaPackage:
    name, version, build = file_name[: -len(".json")].rsplit("-", 2)
    return CondaPackage(normalise(name), version, build, "", os.path.join(folder, file_name))


def parse_channel(head: str) -> str:
    """Give the channel's name out of a record's first lines, without host, credentials or token."""
    match = re.search(r'"channel"\s*:\s*"([^"]*)"', head) or re.search(r'"schannel"\s*:\s*"([^"]*)"', head)
    channel = match.group(1).rstrip("/") if match else ""
    if "://" not in channel:
        return channel
    path = channel.split("://", 1)[1].partition("/")[2]
    parts = [part for part in re.sub(r"(^|/)t/[^/]+", "", path).split("/") if part]
    if parts and re.match(r"(linux|osx|win)-|noarch$", parts[-1]):
        parts.pop()
    return "/".join(parts)
