"""The text of a statement as pg_stat_statements keeps it, made bare: no comment, no literal, no quote. Pure.

The server puts `$1` in place of most constants, not of all: a text it had to store anew keeps its literals, and before 16 those of utility
statements stay. Comments stay everywhere and often name a user. So nothing of a text is shown or written that has not gone through here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

NAME_BYTES = 63  # NAMEDATALEN - 1; the server cuts longer names
LONGEST_SHOWN = 160
PARAMETER, QUOTED, TABLE = "atlas_ops_p", "atlas_ops_q", "atlas_ops_t"
"""What marks in a bare text begin with. A statement that says atlas_ops is ours and never comes here."""

_WORD = r"[A-Za-z_\u0080-\U0010ffff][\w$\u0080-\U0010ffff]*"
_PIECE = re.compile(
    rf"""(?P<space>[ \t\n\r\f\v]+)
      |(?P<comment>--[^\n\r]*)
      |(?P<open>/\*)
      |(?P<string>[eE]'(?:[^'\\]|\\.|'')*'|(?:[bBxXnN]|[uU]&)?'(?P<plain>(?:[^']|'')*)'
                 |\$(?P<tag>(?:[A-Za-z_\u0080-\U0010ffff]\w*)?)\$.*?\$(?P=tag)\$)
      |(?P<name>(?:[uU]&)?"(?:[^"]|"")+")
      |(?P<parameter>\$\d+)
      |(?P<number>0[xXoObB][\da-fA-F_]+|(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d+)?)
      |(?P<word>{_WORD})
      |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_UPPER_TO_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}

# How a client names a statement or a cursor in SQL: what follows is what it asks.
_ENVELOPE = re.compile(
    rf"""(?:PREPARE\s+{_WORD}\s*(?:\([^()]*(?:\([^()]*\)[^()]*)*\)\s*)?AS
       |DECLARE\s+{_WORD}\s+(?:(?:BINARY|ASENSITIVE|INSENSITIVE|NO|SCROLL)\s+)*CURSOR\s+(?:WITH(?:OUT)?\s+HOLD\s+)?FOR)\s+""",
    re.IGNORECASE | re.VERBOSE,
)

# 'interval $1' is what the server makes of interval '1 day', and no SQL; so is extract($1 FROM ...).
_TYPE = (
    r"bigint|bit(?:\s+varying)?|bool(?:ean)?|box|bpchar|bytea|char(?:acter)?(?:\s+varying)?|cidr|circle|date|dec(?:imal)?|double\s+precision"
    r"|float[48]?|inet|int[248]?|integer|interval|jsonb?|jsonpath|line|lseg|macaddr8?|money|name|numeric|oid|path|pg_lsn|point|polygon|real"
    r"|reg[a-z]+|smallint|text|time(?:stamp)?(?:tz)?|tsquery|tsvector|uuid|varbit|varchar|xml"
)
_TYPED = re.compile(
    rf"(?<![\w$.])(?P<type>(?:pg_catalog\s*\.\s*)?(?:{_TYPE})(?:\s*\(\s*\d+(?:\s*,\s*\d+)?\s*\))?(?:\s+with(?:out)?\s+time\s+zone)?)\s+\$(?P<number>\d+)",
    re.IGNORECASE,
)
_EXTRACT = re.compile(r"(?<![\w$.])extract\s*\(\s*\$(?P<number>\d+)\s+from\b", re.IGNORECASE)
_SHORT_TYPE = re.compile(rf"(?:{_TYPE}|float|time(?:stamp)?)\s*$", re.IGNORECASE)
_ORDINALS = re.compile(r"\b(?:ORDER|GROUP)\s+BY\s+(?:[^()]*,\s*)?$", re.IGNORECASE)
_LOOK_BACK = 300  # characters, for what a number belongs to
_JOINED = re.compile(r"[\w$\u0080-\U0010ffff]")


class Unclear(Exception):
    """A text that cannot be told apart into names, literals and the rest for certain."""


@dataclass(frozen=True, slots=True)
class Bare:
    """A statement in which every quoted name, and every name that may be the table's, is a mark of its own.

    `text`: words, numbers of types and positions, operators, $1 and marks. `written`: a mark as it stood in the statement; `names`: the
    name it means. `fields`: parameters that are the field of an extract().
    """

    text: str
    written: Mapping[str, str]
    names: Mapping[str, str]
    fields: frozenset[int]

    def name(self, word: str) -> str:
        """The name that a word or a mark means, as the catalogs have it."""
        return self.names.get(word) or folded(word)


def folded(word: str) -> str:
    """An unquoted name as PostgreSQL folds and cuts it (ASCII letters, as in UTF8)."""
    return _cut(word.translate(_UPPER_TO_LOWER))


def bare(text: str, table: str) -> Bare:
    """The statement without comments and literals: each literal is a parameter beyond those there are. `table`: the name to mark.

    Raises Unclear, also for more than one statement.
    """
    pieces = _pieces(text)
    used = max((int(piece[1:]) for kind, piece in pieces if kind == "parameter"), default=0)
    done = ""
    written: dict[str, str] = {}
    names: dict[str, str] = {}
    for kind, original in pieces:
        piece = original
        meant = (unquoted(piece) if kind == "name" else folded(piece)) if kind in ("name", "word") else None
        if meant is not None and (kind == "name" or meant == table):
            mark = f"{TABLE if meant == table else QUOTED}{len(written)}"
            written[mark], names[mark] = piece, meant
            piece = mark
        elif kind == "string" or (kind == "number" and not _is_of_the_grammar(done[-_LOOK_BACK:])):
            used += 1
            piece = f"${used}"
        apart = " " if _JOINED.match(done[-1:]) and _JOINED.match(piece) else ""  # LIKE'a' is two words
        done += apart + piece
    if ";" in done:
        raise Unclear
    plain = _ENVELOPE.sub("", done, count=1) if _ENVELOPE.match(done) else done
    fields = frozenset(int(found["number"]) for found in _EXTRACT.finditer(plain))
    plain = _EXTRACT.sub(r"pg_catalog.date_part($\g<number>,", plain)
    plain = _TYPED.sub(r"$\g<number>::\g<type>", plain)
    return Bare(plain.replace("%(", "% ("), written, names, fields)


def unquoted(written: str) -> str:
    """A quoted name as the catalogs have it. Raises Unclear for one with Unicode escapes."""
    if not written.startswith('"'):
        raise Unclear
    return _cut(written[1:-1].replace('""', '"'))


def masked(text: str, longest: int = LONGEST_SHOWN) -> str:
    """The statement in one line, each literal as …, without comments, cut to `longest` characters. Raises Unclear."""
    line = "".join("…" if kind in ("string", "number") else piece for kind, piece in _pieces(text))
    line = " ".join(line.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def marked(text: str) -> str:
    """A bare text with $1 as a word: sqlglot would take what stands between two $ for a quoted literal."""
    return re.sub(r"\$(\d+)", rf"{PARAMETER}\1", text)


def shape(text: str) -> str:
    """What two statements have in common that differ by their constants only. Raises Unclear."""
    return " ".join(
        "…" if kind in ("string", "number", "parameter") else folded(piece) if kind == "word" else piece
        for kind, piece in _pieces(text)
        if kind != "space"
    )


def _is_of_the_grammar(before: str) -> bool:
    """Whether a number that follows is no value: of a type, varchar(10), or the position of a column, ORDER BY 1."""
    inside, comma = re.search(r"\(\s*$", before), re.search(r"\(\s*\d+\s*,\s*$", before)
    opened = inside or comma
    if opened and _SHORT_TYPE.search(before[: opened.start()]):
        return True
    return _ORDINALS.search(before) is not None


def _cut(name: str) -> str:
    return name if len(name.encode()) <= NAME_BYTES else name.encode()[:NAME_BYTES].decode(errors="ignore")


def _pieces(text: str) -> list[tuple[str, str]]:
    """(kind, text) of each piece; comments and whitespace as one space, or a line break with what the line begins with; none at either
    end, no semicolon at the end."""
    pieces: list[tuple[str, str]] = []
    for kind, piece in _scanned(text):
        if kind != "space":
            pieces.append((kind, piece))
        elif pieces and pieces[-1][0] == "space":
            pieces[-1] = ("space", _break(pieces[-1][1] + piece))
        elif pieces:
            pieces.append(("space", _break(piece)))
    while pieces and (pieces[-1][0] == "space" or pieces[-1][1] == ";"):
        pieces.pop()
    return pieces


def _break(space: str) -> str:
    _, line_break, indent = space.expandtabs(4).rpartition("\n")
    return f"\n{' ' * len(indent)}" if line_break else " "


def _scanned(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(text):
        found = _PIECE.match(text, position)
        assert found is not None  # `other` takes whatever is left
        position = found.end()
        kind, piece = next((kind, found[kind]) for kind in _KINDS if found[kind] is not None)
        if kind == "open":
            position = _after_comment(text, position)
            kind, piece = "space", " "
        if kind == "comment":
            kind, piece = "space", "\n"
        # where standard_conforming_strings is off, a backslash may hide the quote
        if (kind == "other" and piece in "'\"\0") or "\\" in (found["plain"] or ""):
            raise Unclear
        yield kind, piece


_KINDS = ("space", "comment", "open", "string", "name", "parameter", "number", "word", "other")


def _after_comment(text: str, position: int) -> int:
    """Where a comment ends whose /* ends at `position`; comments nest."""
    depth = 1
    for found in re.finditer(r"/\*|\*/", text[position:]):
        depth += 1 if found[0] == "/*" else -1
        if depth == 0:
            return position + found.end()
    raise Unclear
