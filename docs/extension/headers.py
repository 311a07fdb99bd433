"""The directive c-header: declarations of a public header with their comments, for reStructuredText pages."""

import pathlib
import re

from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

INCLUDE = pathlib.Path(__file__).resolve().parents[2] / "include/xai"
PIECE = re.compile(
    r"/\*\*(?P<comment>.*?)\*/"
    r"|^#define (?P<macro>XAI_(?!API)\w+)(?P<rest> [^\n]+)$"
    r"|^XAI_API (?P<function>[^;]+);"
    r"|^typedef (?P<type>[^;]+);",
    re.S | re.M,
)


def to_rst(text):
    """Plain text with `code` to reStructuredText."""
    parts = re.split(r"`([^`\n]+)`", text)
    plain = [re.sub(r"([\\*|_])", r"\\\1", part) for part in parts[::2]]
    code = [f"``{part}``" for part in parts[1::2]]
    return "".join(a + b for a, b in zip(plain, [*code, ""], strict=True))


def read_comment(comment):
    """Paragraphs, parameters as (names, text), what is returned, since when."""
    lines = [re.sub(r"^\s*\* ?", "", line).rstrip() for line in comment.strip().splitlines()]
    text = "\n".join(lines).strip()
    since = re.search(r"@since\s+([0-9.]+[0-9])", text)
    text = re.sub(r"@since\s+[0-9.]+[0-9]\.?", "", text).replace("@file", "")
    main, *tags = re.split(r"^\s*@(?=param|return)|(?<=\s)@(?=param|return)", text, flags=re.M)
    parameters, returned = [], ""
    for tag in tags:
        kind, rest = tag.split(None, 1)
        rest = " ".join(rest.split())
        if kind == "return":
            returned = rest
        else:
            names = re.match(r"(\w+(?:, \w+)*)\s+(.*)", rest)
            parameters.append((names.group(1), names.group(2)))
    paragraphs = [" ".join(each.split()) for each in re.split(r"\n\s*\n", main) if each.strip()]
    return paragraphs, parameters, returned, since.group(1) if since else ""


def body(comment):
    """Lines of reStructuredText below a declaration."""
    paragraphs, parameters, returned, since = read_comment(comment)
    lines = []
    for paragraph in paragraphs:
        lines += ["", to_rst(paragraph)]
    if parameters or returned or since:
        lines.append("")
    for names, text in parameters:
        lines += [f":param {name}: {to_rst(text)}" for name in names.split(", ")]
    if returned:
        lines.append(f":returns: {to_rst(returned)}")
    if since:
        lines.append(f":since: {since}")
    return lines


def declarations(header):
    """Every documented piece of a header: the comment of the file first, then (kind, declaration, comment)."""
    text = (INCLUDE / header).read_text()
    intro, found, comment = "", [], ""
    for piece in PIECE.finditer(text):
        if piece["comment"] is not None:
            if "@file" in piece["comment"]:
                intro = piece["comment"]
            else:
                comment = piece["comment"]
            continue
        if piece["macro"]:
            found.append(("c:macro", piece["macro"], f"{comment}\n\n`{piece['rest'].strip()}`"))
        elif piece["function"]:
            found.append(("c:function", " ".join(piece["function"].split()), comment))
        else:
            kind = "c:struct" if piece["type"].startswith("struct") else "c:type"
            declared = " ".join(piece["type"].split())
            found.append((kind, declared.split()[-1] if kind == "c:struct" else declared, comment))
        comment = ""
    return intro, found


class CHeader(SphinxDirective):
    """`.. c-header:: model.h`"""

    required_arguments = 1

    def run(self):
        intro, found = declarations(self.arguments[0])
        self.env.note_dependency(str(INCLUDE / self.arguments[0]))
        lines = [*body(intro), ""] if intro else []
        for kind, declared, comment in found:
            lines += [f".. {kind}:: {declared}", ""]
            lines += [f"   {line}" if line else "" for line in body(comment)] + [""]
        source = f"include/xai/{self.arguments[0]}"
        return self.parse_content_to_nodes_of(StringList(lines, source=source))

    def parse_content_to_nodes_of(self, lines):
        from docutils import nodes

        section = nodes.container()
        self.state.nested_parse(lines, self.content_offset, section)
        return section.children


def setup(app):
    app.add_directive("c-header", CHeader)
    return {"parallel_read_safe": True}
