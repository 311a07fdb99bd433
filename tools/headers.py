"""The public headers as data: functions, constants, handles and callbacks of include/xai.

For the C# imports (tools/csharp-imports) and the comparison of the binary interface (tests/abi).
The headers keep to a small part of C, which `check` enforces: opaque structs, no enums, no structs by value.
"""

import pathlib
import re
from typing import NamedTuple

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "include/xai"
SCALARS = ("void", "char", "double", "float", "size_t") + tuple(
    f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)
)


class Parameter(NamedTuple):
    """A parameter: type as written in C, with one space between words and no space before `*`."""

    type: str
    name: str


class Function(NamedTuple):
    """A declaration, with the version of its comment's @since."""

    name: str
    result: str
    parameters: tuple[Parameter, ...]
    since: str


class Constant(NamedTuple):
    """A #define with a value; `text` is the value as C."""

    name: str
    text: str
    since: str


def _squeeze(text: str) -> str:
    return re.sub(r"\s*(\*+)\s*", r"\1", re.sub(r"\s+", " ", text)).replace("*const", "* const").strip()


def _parameter(text: str) -> Parameter:
    found = re.fullmatch(r"(.*[\s*])(\w+)(\[\w*\])?", text.strip(), re.S)
    if not found:
        raise SystemExit(f"include/xai: cannot read the parameter '{text}'")
    return Parameter(_squeeze(found.group(1) + ("*" if found.group(3) else "")), found.group(2))


def _parameters(text: str) -> tuple[Parameter, ...]:
    return () if text.strip() == "void" else tuple(_parameter(each) for each in text.split(","))


def _since(text: str) -> str:
    found = re.findall(r"@since\s+(?:\*\s*)?(\d+\.\d+)", text)
    return found[-1] if found else "?"


def sources() -> dict[str, str]:
    """Text of each C header, by file name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.h"))}


def without_comments(text: str) -> str:
    """Replace comments by spaces; positions stay."""
    return re.sub(r"/\*.*?\*/", lambda found: re.sub(r"[^\n]", " ", found.group()), text, flags=re.S)


def functions() -> list[Function]:
    """All functions, sorted by name."""
    found = []
    for text in sources().values():
        plain = without_comments(text)
        for match in re.finditer(r"XAI_API\s+([^;()]*?)(xai_\w+)\s*\(([^()]*)\)\s*;", plain):
            found.append(Function(match[2], _squeeze(match[1]), _parameters(match[3]), _since(text[: match.start()])))
    return sorted(found)


def callbacks() -> list[Function]:
    """Function pointer types."""
    found = []
    for text in sources().values():
        plain = without_comments(text)
        for match in re.finditer(r"typedef\s+([^;()]*?)\(\*(xai_\w+)\)\(([^()]*)\)\s*;", plain):
            found.append(Function(match[2], _squeeze(match[1]), _parameters(match[3]), _since(text[: match.start()])))
    return sorted(found)


def handles() -> list[str]:
    """Opaque struct types."""
    plain = "\n".join(without_comments(text) for text in sources().values())
    return sorted(set(re.findall(r"typedef\s+struct\s+(xai_\w+)\s+\1\s*;", plain)))


def constants() -> list[Constant]:
    """Constants with a value: XAI_OK ((xai_status)0), XAI_MAX_RANK 8."""
    found = []
    for text in sources().values():
        plain = without_comments(text)
        for match in re.finditer(r"^#define (XAI_(?!API\b)\w+) +(\S.*?) *$", plain, re.M):
            found.append(Constant(match[1], match[2], _since(text[: match.start()])))
    return sorted(found)


def value(constant: Constant) -> int:
    """Evaluate the text of a constant: an integer, perhaps with a cast."""
    found = re.fullmatch(r"\(*\s*(?:\((?:u?int\d+_t|xai_status)\))?\s*(-?\d+)\s*\)*", constant.text)
    if not found:
        raise SystemExit(f"include/xai: {constant.name} is '{constant.text}', not a whole number")
    return int(found.group(1))


def check() -> list[str]:
    """Say what breaks the rules that keep the binary interface stable."""
    problems = []
    known = set(SCALARS) | set(handles()) | {each.name for each in callbacks()} | {"xai_status"}
    for name, text in sources().items():
        plain = without_comments(text)
        for word in re.findall(r"\b(?:struct|union)\s+\w*\s*\{|\benum\b|\bbool\b|\blong\b|\bint\b|\bunsigned\b", plain):
            problems.append(f"{name}: '{word}': only opaque structs and types of fixed width")
    for each in functions() + callbacks():
        for type_, what in [(each.result, "result"), *((p.type, p.name) for p in each.parameters)]:
            base = re.sub(r"\bconst\b|\*", " ", type_).strip()
            if base not in known:
                problems.append(f"{each.name}: {what} has the unknown type '{type_}'")
            if base in handles() and "*" not in type_:
                problems.append(f"{each.name}: {what} passes the struct {base} by value")
        if each.since == "?":
            problems.append(f"{each.name}: no @since")
    return problems
