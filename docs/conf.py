"""How the site is built: ``sphinx-build -W -b html docs docs/_build``."""

import sys
from pathlib import Path

import segcore

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "segcore"
author = "The segcore developers"
project_copyright = author
release = segcore.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "segcore_pages"]
exclude_patterns = [
    "_build",
    "project/changes",  # the fragments are parts of project/changelog.md
    "tutorials/first-plugin",  # a package, shown in parts by the page of that name
]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes of records as one list
napoleon_use_rtype = False
default_role = "py:obj"  # a name in single backticks is a link where it is documented
maximum_signature_line_length = 90
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"segcore {release}"
html_static_path = ["_static"] if (HERE / "_static").is_dir() else []
html_copy_source = False
