"""``python -m envdoctor``: the same as the ``envdoctor`` command."""

from envdoctor.cli import main

if __name__ == "__main__":
    main()
