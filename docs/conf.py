"""How Sphinx builds the documentation: ``python -m sphinx -W --keep-going -b html docs docs/_build/html``.

Needs no network: figures and tables are made here, and it reads no other project's index.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html import escape
from pathlib import Path
from typing import Any

import pynwb
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxRole

import nwb_extfiles

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

import plots  # it stands beside this file

PUBLIC = {*nwb_extfiles.__all__, "NWBExtFilesZarrIO"}

os.environ.setdefault("DANDI_NO_ET", "1")  # dandi asks the network for news of itself
os.environ.setdefault("TQDM_DISABLE", "1")  # bars of progress are no output to show

project = "nwb-extfiles"
author = "The nwb-extfiles developers"
version = release = nwb_extfiles.__version__
html_title = f"nwb-extfiles {version}"
extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
if os.environ.get("READTHEDOCS"):  # types of other projects become links; elsewhere the build needs no network
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "pynwb": ("https://pynwb.readthedocs.io/en/stable", None),
        "hdmf": ("https://hdmf.readthedocs.io/en/stable", None),
        "dandi": ("https://dandi.readthedocs.io/en/stable", None),
    }
exclude_patterns = ["_build", "gallery", "reference/_*", "explain/_*"]
nitpicky = True
html_theme = "furo"
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["extra.css"]
copybutton_prompt_text = "$ "
copybutton_exclude = ".linenos, .gp, .go"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
numpydoc_show_class_members = False

# Docstrings put names of Python between single backticks.
default_role = "name"
smartquotes = False  # of two dashes it makes one, in options too

# Types of other projects, of which this build has no index.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!nwb_extfiles).*"),
    (r"py:.*", r"nwb_extfiles\.(options\.)?ProgressCallback"),
    (r"py:.*", r"nwb_extfiles\.neuroconv\._Conversion"),
    (r"py:.*", r"nwb_extfiles\.hints\.Spelling"),
]

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "tutorials",
    "filename_pattern": r"plot_",
    "within_subsection_order": "FileNameSortKey",
    "capture_repr": (),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "min_reported_time": 3600,
    "write_computation_times": False,
    "remove_config_comments": True,
    "image_scrapers": ("matplotlib",),
}


# ------------------------------------------------------------------ docstrings


class Name(SphinxRole):
    """A name between single backticks: a link if it is one of this package, else code."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Make the nodes."""
        first = self.text.partition(".")[0]
        if first in PUBLIC and self.env.docname != "reference/cli":  # there `check` is a command
            text = f":py:obj:`{self.text} <nwb_extfiles.{self.text}>`"
            return self.inliner.parse(text, self.lineno, self.inliner, self.inliner.parent)  # type: ignore[attr-defined]
        return [nodes.literal(self.rawtext, self.text)], []


def as_numpydoc(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Give the docstrings that hdmf's docval makes the form of all others."""
    if "Args:" not in lines:
        return
    start = lines.index("Args:")
    arguments = [line for line in lines[start + 1 :] if line.strip()]
    head = [line.strip() for line in lines[:start]]
    lines[:] = [*head, "", "Parameters", "----------"]
    for line in arguments:
        argument, kind, doc = re.fullmatch(r"\s+(\w+) \((.*?)\): (.*)", line).groups()  # type: ignore[union-attr]
        kind = re.sub(r":py:class:`~(?:[\w.]+\.)?(\w+)`|``(\w+)``", r"\1\2", kind)
        lines += [f"{argument} : {kind}", f"    {doc}"]


def signature_of_docval(app: Sphinx, what: str, name: str, obj: Any, options: object, given: str, returns: str) -> Any:
    """Give the signature of a class whose constructor is made by hdmf's docval, which hides it; tidy the others."""
    if what == "class" and "<factory>" in (given or ""):
        given = re.sub(r"~[\w.]*\.(?=\w)", "", given).replace("<factory>", "{}")
        return re.sub(r"<function (\w+)>", r"\1", given), returns
    first = (getattr(obj, "__init__", obj).__doc__ or "").partition("\n")[0] if what == "class" else ""
    return (first.removeprefix("__init__"), None) if first.startswith("__init__(") else None


def keep_signs(app: Sphinx, context: object, lines: list[str]) -> None:
    """Show the options of commands as ``--help`` does: in reStructuredText backslashes and asterisks are markup."""
    lines[:] = [line.replace("\\", r"\\").replace("*", r"\*") for line in lines]


def find_public(app: Sphinx, env: Any, node: Any, content: Any) -> Any:
    """Resolve the names of modules in which things are defined to the names under which they are documented."""
    if node.get("refdomain") != "py":
        return None
    last = node["reftarget"].rpartition(".")[2]
    if last not in PUBLIC:
        return None
    return env.domains["py"].resolve_xref(
        env, node["refdoc"], app.builder, "obj", f"nwb_extfiles.{last}", node, content
    )


def find_neurodata_type(app: Sphinx, env: Any, node: Any, content: Any) -> Any:
    """Link types of other schemas to their documentation. The addresses are regular, so no network is needed."""
    label = node["reftarget"].lower()
    if (node.get("refdomain"), node["reftype"]) != ("std", "ref") or not label.startswith("sec-"):
        return None
    common = pynwb.get_type_map().namespace_catalog.get_namespace("hdmf-common").catalog.get_registered_types()
    is_common = label.removeprefix("sec-") in {name.lower() for name in common}
    page = f"https://{'hdmf-common-schema' if is_common else 'nwb-schema'}.readthedocs.io/en/latest/format.html"
    return nodes.reference("", content.astext(), refuri=f"{page}#{label}", internal=False)


# ------------------------------------------------------- what is made by code

BEFORE = """\
lab/
├── nwbfiles/
│   └── test1_0_0.nwb
└── video_files/
    ├── test1_0.avi
    └── test1_1.avi"""
BROKEN = """\
upload/
└── sub-mouse0/
    └── sub-mouse0.nwb"""
AFTER = """\
dandiset/
└── sub-mouse0/
    ├── sub-mouse0.nwb
    └── sub-mouse0/
        ├── 933f…_external_file_0.avi
        └── 933f…_external_file_1.avi"""
PANELS = (
    ("The folder in the lab", BEFORE, "../video_files/test1_0.avi", True),
    ("After a plain export", BROKEN, "../video_files/test1_0.avi", False),
    ("With relocate_media=True", AFTER, "sub-mouse0/933f…_external_file_0.avi", True),
)


def draw_folders() -> str:
    """Draw what breaks, and what the package does, as SVG."""
    width, height, line = 330, 250, 20
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {3 * width} {height}" font-family="sans-serif" '
        f'font-size="14"><title>The folder before, the broken path, the folder after</title>'
    ]
    for number, (title, tree, text, works) in enumerate(PANELS):
        color = "#1a7f37" if works else "#c11f1f"
        left, verification = number * width, "found" if works else "no such file"
        out.append(
            f'<rect x="{left + 5}" y="5" width="{width - 10}" height="{height - 10}" rx="6" fill="#ffffff" '
            f'stroke="{color}" stroke-width="2"/>'
            f'<text x="{left + 20}" y="32" font-weight="bold" fill="#111111">{escape(title)}</text>'
        )
        out += [
            f'<text x="{left + 20}" y="{62 + line * row}" font-family="monospace" font-size="13" fill="#111111" '
            f'xml:space="preserve">{escape(entry)}</text>'
            for row, entry in enumerate(tree.splitlines())
        ]
        out.append(
            f'<text x="{left + 20}" y="{height - 58}" fill="#111111">external_file[0]: {verification}</text>'
            f'<text x="{left + 20}" y="{height - 36}" font-family="monospace" font-size="12" fill="{color}">'
            f"{escape(text)}</text>"
        )
    return "\n".join([*out, "</svg>\n"])


def write_schema() -> None:
    """Have hdmf-docutils write the pages of the schema, if they are not younger than what they are made of."""
    made = DOCS / "reference" / "_format_auto_docs" / "format_spec_main.inc"
    sources = [DOCS / "conf_doc_autogen.py", *(DOCS.parent / "spec").glob("*.yaml")]
    if made.exists() and made.stat().st_mtime > max(source.stat().st_mtime for source in sources):
        return
    made.parent.mkdir(exist_ok=True)  # else the command asks git for a hash
    made.unlink(missing_ok=True)  # it ends with 0 where it has done nothing, too
    code = "from hdmf_docutils.generate_format_docs import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(DOCS)}
    # a process of its own: its settings are a module, and it registers the namespace
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    if run.returncode or "FAILED" in run.stdout or not made.exists():
        raise ExtensionError(f"hdmf_generate_format_docs failed:\n{run.stdout}{run.stderr}")


def write_if_new(path: Path, text: str) -> None:
    """Write a file, but leave one that is right, so that it is not read again."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Register all of the above with Sphinx."""
    write_if_new(DOCS / "_folders.svg", draw_folders())
    write_schema()
    plots.make(DOCS / "explain" / "benchmarks.json", DOCS / "explain")
    app.add_role("name", Name())
    app.connect("autodoc-process-signature", signature_of_docval)
    app.connect("autodoc-process-docstring", as_numpydoc, priority=400)
    app.connect("sphinx-click-process-options", keep_signs)
    app.connect("missing-reference", find_public)
    app.connect("missing-reference", find_neurodata_type)
