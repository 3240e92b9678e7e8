# How Sphinx builds these pages; `make docs` does it.

from importlib.metadata import version as installed

project = "holdfast"
author = "The holdfast authors"
copyright = author
version = release = installed("holdfast")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"holdfast {release}"

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

autoclass_content = "class"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
