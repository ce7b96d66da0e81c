"""The skeleton of a statement: what is left when every quoted name and literal is taken out. A name that is not quoted stays, and is seen."""

from __future__ import annotations

import re
from typing import Any

import psycopg

# in the order in which PostgreSQL's lexer sees them; a dollar quote is opened up, for its body is SQL as well
_TOKEN = re.compile(
    r"""(?P<string>[Ee]'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*')|(?P<name>"(?:[^"]|"")*")|(?P<dollar>\$(?:[^\W\d]\w*)?\$)(?P<body>.*?)(?P=dollar)"""
    r"""|(?P<comment>--[^\n]*)|(?P<blank>\s+)""",
    re.DOTALL,
)


def skeleton(statement: str) -> str:
    """Names become N, literals L, comments go. The body of a dollar quote is treated in the same way."""

    def bare(found: re.Match[str]) -> str:
        if found["string"]:
            return "L"
        if found["name"]:
            return "N"
        if found["dollar"]:
            return f"[{skeleton(found['body'])}]"
        return " "

    # psycopg puts a blank before an E'...'
    return re.sub(r" +", " ", _TOKEN.sub(bare, statement)).replace(" L", "L").strip()


class Tap:
    """Hears every statement that a connection of ours sends, as it is sent."""

    def __init__(self, monkeypatch: Any) -> None:
        self.heard: set[str] = set()
        sent = psycopg.Cursor.execute

        def execute(cursor: Any, query: Any, params: Any = None, **options: Any) -> Any:
            if (cursor.connection.info.parameter_status("application_name") or "").startswith("atlas_ops"):
                self.heard.add(query if isinstance(query, str) else query.as_string(cursor))
            return sent(cursor, query, params, **options)

        monkeypatch.setattr(psycopg.Cursor, "execute", execute)

    def skeletons(self) -> set[str]:
        """What was heard, without names and literals."""
        return {skeleton(statement) for statement in self.heard}
