"""[payload] The text that ``python -c`` runs in the patient, before any of our modules can be imported there.

It reads one line from stdin, which says where our modules are, and while it imports them the request may still be on
its way. It keeps the user's own files (a ``json.py`` in the working directory, say) away from our imports, and finds
our few top-level names by their directories: the patient needs nothing installed. When stdin ends without a request,
nothing is wanted, and it goes.
"""

from __future__ import annotations

TEXT = r"""
import sys
if sys.version_info < (3, 8):
    sys.exit("Python %d.%d is too old to be examined: 3.8 or newer is needed" % sys.version_info[:2])


def begin():
    import gc
    import os
    gc.disable()  # we make nothing that needs it; 10 ms of a quick check. The patient's own code has it again
    before, full = set(sys.modules), list(sys.path)
    home = os.path.dirname(getattr(os, "__file__", None) or "") or getattr(sys, "_stdlib_dir", "")
    archive = "python%d%d.zip" % sys.version_info[:2]

    def standard(entry):
        return os.path.normpath(entry) == home or os.path.basename(entry) in ("lib-dynload", archive)

    stdlib = [entry for entry in full if entry and standard(entry)]
    sys.path[:] = stdlib or full
    sys.dont_write_bytecode = False
    import json
    from importlib.machinery import PathFinder
    told = b""
    while b"\n" not in told:
        more = os.read(0, 1 << 16)
        if not more:
            sys.exit(0)
        told += more
    where, _, told = told.partition(b"\n")

    class Payload:
        homes = json.loads(where)

        @classmethod
        def find_spec(cls, name, path=None, target=None):
            return PathFinder.find_spec(name, [cls.homes[name]]) if name in cls.homes else None

    sys.meta_path.insert(0, Payload)
    from envdoctor.child.paths import Paths
    from envdoctor.child.service import main
    sys.dont_write_bytecode = True
    chunks = [told]
    while len(chunks) == 1 or chunks[-1]:
        chunks.append(os.read(0, 1 << 20))
    request = json.loads(b"".join(chunks) or b"null")
    if request is None:
        sys.exit(0)
    main(request, Paths(list(sys.path), full, Payload.homes, before))


begin()
"""
