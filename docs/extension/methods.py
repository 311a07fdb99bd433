"""Directives that ask the library: xai-methods (a table), xai-options (of every method); for reStructuredText pages."""

import pathlib

from docutils import nodes
from docutils.statemachine import StringList
from headers import to_rst
from sphinx.util.docutils import SphinxDirective

PAGES = pathlib.Path(__file__).resolve().parents[1] / "methods"


class Lines(SphinxDirective):
    """What becomes of lines of reStructuredText."""

    def lines(self):
        raise NotImplementedError

    def run(self):
        container = nodes.container()
        self.state.nested_parse(StringList(list(self.lines()), source="libxai"), self.content_offset, container)
        return container.children


class Methods(Lines):
    """All methods with one line each, linked to their pages."""

    def lines(self):
        import libxai

        yield from (".. list-table::", "   :widths: 22 78", "")
        for name, described in libxai.methods().items():
            page = name.replace("++", "_plus_plus")
            page = next((each for each in (name, page) if (PAGES / f"{each}.md").exists()), None)
            yield f"   * - {f':doc:`{name} <{page}>`' if page else f'``{name}``'}"
            yield f"     - {to_rst(described)}"


class Options(Lines):
    """The options of every method."""

    def lines(self):
        import libxai

        for name in libxai.methods():
            options = libxai.method_options(name)
            if not options:
                continue
            yield from ("", f".. rubric:: {name}", "", ".. list-table::", "   :widths: 22 18 60", "")
            for option, (default, described) in options.items():
                yield f"   * - ``{option}``"
                yield f"     - {f'``{default}``' if default else ''}"
                yield f"     - {to_rst(described)}"


def setup(app):
    app.add_directive("xai-methods", Methods)
    app.add_directive("xai-options", Options)
    return {"parallel_read_safe": True}
