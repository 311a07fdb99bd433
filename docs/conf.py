"""The documentation site: `tests/run docs` builds it; warnings are errors.

By hand, with the package libxai installed: sphinx-build -W docs build/site
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs/extension"))

project = "libxai"
author = "the libxai project"
copyright = author
release = re.search(r"version:\s*'([0-9.]+)'", (ROOT / "meson.build").read_text()).group(1)
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "headers", "methods"]
exclude_patterns = ["extension", "pictures"]
html_theme = "alabaster"
html_theme_options = {
    "page_width": "1100px",
    "sidebar_width": "240px",
    "description": "What in the image speaks for it",
}
html_sidebars = {"**": ["about.html", "navigation.html", "searchbox.html"]}
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_typehints = "none"  # types stand in the docstrings
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_ivar = True
highlight_language = "none"
# Links out of the site's folder, to headers and examples, are for readers of the repository.
suppress_warnings = ["myst.xref_missing", "myst.header"]
