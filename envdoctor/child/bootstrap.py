"""[payload] The texts that the patient's interpreter runs before any of our modules can be imported there.

``TEXT`` is for an interpreter on this machine: ``python -c`` runs it. It reads one line from stdin, which says where
our modules are, and while it imports them the request may still be on its way. When stdin ends without a request,
nothing is wanted, and it goes.

``SENT`` is for an interpreter behind a command, which sees none of our files: ``FIRST`` has it read from stdin, and
after it the archive of our modules. They are kept in memory; nothing is written there. It says ``ready`` when it could
import them, and stdin stays open: when it ends, the link is gone.

Both keep the user's own files (a ``json.py`` in the working directory, say) away from our imports, and find our few
top-level names by themselves: the patient needs nothing installed.
"""

from __future__ import annotations

_SETTLE = r"""
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
"""
_FROM_DISK = r"""
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
_FROM_STDIN = r"""
    sys.dont_write_bytecode = True
    import io
    import json
    import time
    import zipfile
    from importlib.machinery import ModuleSpec

    def read(size):
        parts = []
        while size:
            parts.append(os.read(0, min(size, 1 << 16)))
            if not parts[-1]:
                sys.exit("the input ended before all of envdoctor's modules had come")
            size -= len(parts[-1])
        return b"".join(parts)

    with zipfile.ZipFile(io.BytesIO(read(SIZE))) as packed:
        sources = {name: packed.read(name) for name in packed.namelist()}

    class Payload:
        homes = dict.fromkeys(name.partition("/")[0].partition(".")[0] for name in sources)

        @classmethod
        def find_spec(cls, name, path=None, target=None):
            if name.partition(".")[0] not in cls.homes:
                return None
            base = name.replace(".", "/")
            for file in (base + "/__init__.py", base + ".py"):
                if file in sources:
                    spec = ModuleSpec(name, cls, origin="<envdoctor>/" + file, is_package=file.endswith("__init__.py"))
                    spec.has_location = True
                    return spec
            return None

        @staticmethod
        def create_module(spec):
            return None

        @staticmethod
        def exec_module(module):
            spec = module.__spec__
            exec(compile(sources[spec.origin[len("<envdoctor>/"):]], spec.origin, "exec"), module.__dict__)

    sys.meta_path.insert(0, Payload)
    from envdoctor.child.paths import Paths
    from envdoctor.child.service import main
    # On a line of its own, whatever a login printed before it.
    os.write(1, b"\n" + json.dumps({"event": "ready", "at": time.monotonic()}).encode() + b"\n")
    told = b""
    while not told.endswith(b"\n"):
        more = os.read(0, 1 << 16)
        if not more:
            sys.exit(0)
        told += more
    main(json.loads(told), Paths(list(sys.path), full, Payload.homes, before, caches=False))


begin()
"""
TEXT = _SETTLE + _FROM_DISK
SENT = _SETTLE + _FROM_STDIN

# One word of a command line that means the same to Python whether or not a shell has taken its quotes away. A command
# such as ssh hands it to a shell, one such as docker exec does not, and we need not know which it is. Python reads one
# line from stdin and runs it, byte by byte, so that what follows is left where it is.
_READ = "exec(open(0,{0}rb{0},0,None,None,None,0).readline())"
FIRST = "'''" + _READ.format('"') + "#'''" + 'f"{' + _READ.format("'") + '}"'


def sent(archive: bytes) -> bytes:
    """Give what an interpreter that runs ``FIRST`` is to read: the text on one line, then the archive."""
    return f"exec({SENT.replace('SIZE', str(len(archive)))!r})\n".encode() + archive
