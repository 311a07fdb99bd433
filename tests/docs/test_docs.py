"""The documentation site builds without a warning, and covers what is public."""

import pathlib
import re
import subprocess
import sys
import urllib.parse

import libxai
import pytest

pytest.importorskip("sphinx", reason="Sphinx is not installed")
pytest.importorskip("myst_parser", reason="myst-parser is not installed")
ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", folder / "trees"]
    done = subprocess.run([*command, ROOT / "docs", folder / "html"], capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "html"


def test_every_function_of_the_headers_is_there(site):
    text = (site / "reference/c.html").read_text()
    functions = re.findall(r"^(xai_\w+) ", (ROOT / "docs/symbols-by-version.txt").read_text(), re.M)
    assert len(functions) > 80
    assert [name for name in functions if f'id="c.{name}"' not in text] == []


def test_every_public_name_of_python_is_there(site):
    text = (site / "reference/python.html").read_text()
    assert [name for name in libxai.__all__ if f"libxai.{name}" not in text and f".{name}" not in text] == []


def test_every_method_is_listed(site):
    text = (site / "methods/index.html").read_text()
    assert [name for name in libxai.methods() if f">{name}<" not in text] == []


@pytest.mark.parametrize("method", list(libxai.methods()))
def test_the_page_of_a_method_says_what_it_must(method):
    """Formula, every option, cost, what is satisfied, when it misleads, what peers do otherwise."""
    text = (ROOT / f"docs/methods/{method}.md").read_text()
    assert [name for name in libxai.method_options(method) if f"`{name}`" not in text] == []
    for words in (r"cost", r"satisfies|properties", r"when it misleads", r"peers|SHAP's"):
        assert re.search(words, text, re.I), words


def test_links_inside_the_site_lead_somewhere(site):
    for page in site.rglob("*.html"):
        for target in re.findall(r'href="([^"#:?]+)(?:#[^"]*)?"', page.read_text()):
            assert (page.parent / urllib.parse.unquote(target)).exists(), f"{page.relative_to(site)}: {target}"
