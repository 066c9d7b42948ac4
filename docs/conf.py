"""How the documentation site is built: scripts/docs, with Sphinx and MyST. Warnings are errors there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(Path(__file__).resolve().parent))

project = "envdoctor"
author = "the envdoctor authors"
version = release = re.findall(r'__version__ = "(.+?)"', (ROOT / "envdoctor" / "__init__.py").read_text("utf-8"))[0]
extensions = ["myst_parser", "sphinx_copybutton"]
html_theme = "furo"
html_title = f"envdoctor {release}"
html_show_sphinx = False
html_copy_source = False
exclude_patterns = ["_build", "generated"]
html_extra_path = ["../build/site-extra"]
nitpicky = True
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
# Code of the source tree is linked where it is hosted: the site is built without it.
myst_url_schemes = ("http", "https", "mailto")
copybutton_prompt_text = "$ "
suppress_warnings = ["myst.header"]  # a page of explain begins at its second level
