"""``python -m envdoctor``: the same as the ``envdoctor`` command."""

import sys

# -m puts the working directory first on the path. A random.py there must not stand in for the standard library's
# when this program imports it; the patient's own process sees the directory all the same.
if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False):
    del sys.path[0]

from envdoctor.cli import main

if __name__ == "__main__":
    main()
