"""How Sphinx builds these pages: without a network, with warnings as errors (`make docs`)."""

import os
import warnings
import zlib
from pathlib import Path

import mgce_sklearn

HERE = Path(__file__).parent
os.environ.setdefault("OMP_NUM_THREADS", "1")

project = "mgce_sklearn"
author = "The mgce_sklearn authors"
copyright = f"2026, {author}"
version = release = mgce_sklearn.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # formulas come with the pages
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "matplotlib.sphinxext.plot_directive",
]
exclude_patterns = ["_build", "examples", "figures"]
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["pages.css"]
default_role = "code"
nitpicky = True

# Pages

# Names of classes are too long for the contents beside a page.
toc_object_entries_show_parents = "hide"
html_theme = "pydata_sphinx_theme"
html_title = "mgce_sklearn"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "mgce_sklearn"},
    "navbar_align": "left",
    "header_links_before_dropdown": 5,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {
    "**": ["sidebar-nav-bs"],
    **{page: [] for page in ("index", "whats_new", "contributing", "gallery/index")},
}
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
math_eqref_format = "({number})"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# Reference

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
# Sections are known and in order; there is a summary; types are named and sentences end alike.
numpydoc_validation_checks = {"GL06", "GL07", "PR05", "PR06", "PR09", "SS01"}


def inventory(name: str) -> str:
    """Write the inventory of the few names that pages link to: no network is needed to read it."""
    lines = (HERE / f"{name}_inventory.txt").read_text("utf-8")
    head = (
        f"# Sphinx inventory version 2\n# Project: {name}\n# Version: \n"
        "# The remainder of this file is compressed using zlib.\n"
    )
    path = HERE / "_build" / f"{name}.inv"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(head.encode() + zlib.compress(lines.encode()))
    return str(path)


intersphinx_mapping = {"sklearn": ("https://scikit-learn.org/stable/", inventory("sklearn"))}


def skip_member(app, what, name, obj, skip, options):
    """Leave out what scikit-learn gives to every estimator, and fields of named tuples."""
    of_sklearn = name in ("get_metadata_routing", "set_output") or name.endswith("_request")
    return skip or of_sklearn or type(obj).__name__ == "_tuplegetter"


def setup(app):
    """Connect what these pages need, as Sphinx asks for."""
    app.connect("autodoc-skip-member", skip_member)


# Figures

warnings.filterwarnings("ignore", message=".*is non-interactive", category=UserWarning)
plot_formats = [("png", 144)]
plot_html_show_formats = False
plot_html_show_source_link = False
plot_rcparams = {"figure.figsize": (6.4, 3.6), "figure.constrained_layout.use": True}
plot_apply_rcparams = True
sphinx_gallery_conf = {
    "abort_on_example_error": True,
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("mgce_sklearn",),
    "download_all_examples": False,
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "plot_gallery": True,
    "reference_url": {"mgce_sklearn": None},
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
}
