"""A workload: the queries an application asks of a table, as a DBA writes them in parameters/workloads/*.yml.

The SQL is the application's own, pasted: it names the table as `{table}` and a parameter as `%(name)s`, and
nothing else in it is touched, neither other braces nor other percent signs. Where the values come from is a
query as well (`bindings`), so that no file holds a user's data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WrapValidator,
    model_validator,
)
from pydantic.dataclasses import dataclass

from atlas_ops import yamlfile
from atlas_ops.spec import TableSpec
from atlas_ops.written import Flag, NameText, TableText, Text, qualified
from atlas_ops.yamlfile import Fault, refuse, refuse_together

LONGEST_SQL = 20_000
MOST_BINDINGS = 10
LARGEST = 1_000_000

# SQL as far as this module must know it: text that is never looked into, then our two marks.
_TOKEN = re.compile(
    r"""(?P<closed>[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"
                 |\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
      |(?P<comment>--[^\n]*|/\*.*?\*/)
      |%\((?P<parameter>\w+)\)s
      |(?P<malformed>%\(|(?<![\w$])\$\d+)
      |(?P<table>\{table\})
      |(?P<end>;)""",
    re.VERBOSE | re.DOTALL,
)
_WRITES = re.compile(r"(INSERT|UPDATE|DELETE|MERGE)\b", re.IGNORECASE)


def parameters(text: str) -> tuple[str, ...]:
    """The names of the parameters of an SQL text, each once, in order."""
    return tuple(dict.fromkeys(m["parameter"] for m in _TOKEN.finditer(text) if m["parameter"]))


def statement(text: str, table: str, types: Mapping[str, str]) -> str:
    """`text` for psycopg: `table` (quoted already) put in, each parameter with its type, other % doubled.

    A type is as format_type prints it. Raises KeyError for a parameter that has none.
    """
    return _put_in(text, table, lambda name: f"(%({name})s::{_doubled(types[name])})", _doubled)


def prepared(text: str, table: str, types: Mapping[str, str]) -> str:
    """`text` as PREPARE takes it: `table` put in, the first parameter of `parameters(text)` as $1 with its type, and so on.

    Raises KeyError for a parameter that has no type.
    """
    numbers = {name: number for number, name in enumerate(parameters(text), start=1)}
    return _put_in(text, table, lambda name: f"(${numbers[name]}::{types[name]})", str)


def _put_in(text: str, table: str, parameter: Callable[[str], str], kept: Callable[[str], str]) -> str:
    done, end = [], 0
    for found in _TOKEN.finditer(text):
        done.append(kept(text[end : found.start()]))
        if name := found["parameter"]:
            done.append(parameter(name))
        else:
            done.append(kept(table if found["table"] else found[0]))
        end = found.end()
    return "".join(done) + kept(text[end:])


def _doubled(text: str) -> str:
    return text.replace("%", "%%")


# What a key may hold


def _sql(value: str) -> str:
    """One statement without the semicolon at its end."""
    text = value.rstrip().removesuffix(";").strip()
    if not text or "\0" in text:
        refuse("It must hold a statement.", None)
    for found in _TOKEN.finditer(text):
        if found["end"]:
            refuse("It holds more than one statement.", "Write one query a statement.")
        if found["malformed"]:
            refuse(
                f"A parameter is written %(name)s, not {found[0]}",
                "Write %(name)s for a parameter, and % (a + b) with a space for a remainder.",
            )
    return text


def _has_table(text: str) -> bool:
    return any(found["table"] for found in _TOKEN.finditer(text))


def _parse_query(value: str) -> str:
    text = _sql(value)
    if not _has_table(text):
        refuse(
            "It names no {table}, so both sides would be the same table.",
            "Write {table} in place of the table's name.",
        )
    return text


def _parse_bindings(value: str) -> str:
    text = _sql(value)
    if parameters(text):
        refuse("It is where the parameters come from, and has none itself.", None)
    return text


def _parse_expects(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    if not value or not set(value) <= {"prunes_to", "max_slowdown"}:
        refuse("The map must hold prunes_to, max_slowdown or both, and nothing else.", None)
    count, most = value.get("prunes_to"), value.get("max_slowdown")
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        refuse("prunes_to must be a whole number from 1.", None)
    if most is not None and (isinstance(most, bool) or not isinstance(most, int | float) or not 0 < most < LARGEST):
        refuse("max_slowdown must be a number above 0, such as 1.5 for half as much time again.", None)
    return Expects(prunes_to=count, max_slowdown=None if most is None else float(most))


def _after_text(check: Callable[[str], str]) -> WrapValidator:
    return WrapValidator(lambda value, handler: check(handler(value)))


_ShortText = Annotated[Text, Field(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]
_Sql = Annotated[Text, Field(max_length=LONGEST_SQL)]
_QuerySql = Annotated[_Sql, _after_text(_parse_query)]


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Expects:
    """What a query is expected to do on the partitioned table."""

    prunes_to: int | None = Field(default=None, description="the most partitions it may read")
    max_slowdown: float | None = Field(
        default=None, description="the most time it may take, as a multiple of the original table's"
    )


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Query:
    """One question of the application, and how to ask it of both tables. Made by `load`."""

    name: Annotated[Text, Field(pattern=r"^[a-z][a-z0-9_-]{0,40}$")] = Field(
        description="lower-case letters, digits, _ and - (at most 41): how charts and tables call the query",
        examples=["history_page"],
    )
    description: _ShortText = Field(
        description="one line of text, at most 200 characters: what the application asks here",
        examples=["the latest 50 messages of a conversation"],
    )
    table: TableText = Field(
        description="the table it asks, named as in the parameters file; public if bare",
        examples=["messages"],
    )
    sql: _QuerySql = Field(
        description="one SQL statement with {table} for the table and %(name)s for a parameter",
        examples=["SELECT count(*) FROM {table} WHERE user_id = %(user)s"],
    )
    sql_file: _ShortText | None = Field(
        default=None,
        description="in place of sql: a file with the statement, named from the folder of the workload file",
        examples=["monthly_count.sql"],
    )
    sql_partitioned: _QuerySql | None = Field(
        default=None,
        description="the statement for the partitioned table, where it must be another one (ON CONFLICT)",
        examples=["INSERT INTO {table} ... ON CONFLICT (id, created_at) DO NOTHING"],
    )
    sql_rewritten: _QuerySql | None = Field(
        default=None,
        description="another way to ask the same of the partitioned table, to be measured beside the first",
        examples=["SELECT count(*) FROM {table} WHERE user_id = %(user)s AND created_at >= %(since)s"],
    )
    bindings: Annotated[_Sql, _after_text(_parse_bindings)] | None = Field(
        default=None,
        description="one SQL query whose rows (at most 10) name the parameters and give their values and types",
        examples=['SELECT user_id AS "user" FROM {table} WHERE user_id IS NOT NULL ORDER BY id LIMIT 1'],
    )
    role: NameText | None = Field(
        default=None,
        description="the role to ask as, so that row security counts",
        examples=["authenticated"],
    )
    claims: Annotated[_Sql, _after_text(_sql)] | None = Field(
        default=None,
        description="an SQL expression over the parameters: the text of request.jwt.claims",
        examples=["json_build_object('sub', %(user)s)"],
    )
    writes: Flag = Field(
        default=False,
        description="true or false: whether it writes; it is measured in a transaction that is rolled back",
        examples=[True],
    )
    weight: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description="a number above 0: the calls of this query among all, from pg_stat_statements",
        examples=[12.5],
    )
    expects: Annotated[Expects, BeforeValidator(_parse_expects)] | None = Field(
        default=None,
        description="a map of prunes_to (the most partitions it may read) and max_slowdown (the most time it may take, as a"
        " multiple of the original's)",
        examples=["{prunes_to: 1, max_slowdown: 1.5}"],
    )

    @property
    def prunes_to(self) -> int | None:
        """The most partitions it is expected to read, if the file says so."""
        return self.expects.prunes_to if self.expects else None

    @property
    def max_slowdown(self) -> float | None:
        """The most time it may take on the partitioned table, as a multiple of the original's, if the file says so."""
        return self.expects.max_slowdown if self.expects else None

    @model_validator(mode="after")
    def _whole(self) -> Query:
        """What no key can say alone. All faults are told together."""
        faults = list(_faults_between_keys(self))
        if faults:
            refuse_together(faults)
        return self


class Workload(BaseModel):
    """A workload file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    queries: Annotated[tuple[Query, ...], Field(min_length=1)] = Field(description="a list of queries")

    def of(self, spec: TableSpec) -> tuple[Query, ...]:
        """The queries that ask the table of `spec`."""
        return tuple(query for query in self.queries if asks(query, spec))


def asks(query: Query, spec: TableSpec) -> bool:
    """Whether a query asks the table of `spec`."""
    return qualified(query.table) == (spec.schema, spec.name)


def load(path: Path) -> Workload:
    """Read a workload file. Raises AtlasError with the line of every fault."""
    read = yamlfile.read(path, _FORM)
    if faults := list(_from_files(read.data, path.parent)):
        yamlfile.stop(str(path), faults, read.lines, _FORM.item)
    try:
        workload = Workload.model_validate(read.data)
    except ValidationError as error:
        yamlfile.stop(str(path), _FORM.faults(error), read.lines, _FORM.item)
    if faults := list(_twice(workload)):
        yamlfile.stop(str(path), faults, read.lines, _FORM.item)
    return workload


def _from_files(data: object, folder: Path) -> Iterator[Fault]:
    """Puts the text of each `sql_file` into its query; what is no map or no text is left for pydantic to tell."""
    queries = data.get("queries") if isinstance(data, dict) else None
    for number, query in enumerate(queries if isinstance(queries, list) else ()):
        named = query.get("sql_file") if isinstance(query, dict) else None
        if not isinstance(named, str):
            continue
        where = ("queries", number, "sql_file")
        if "sql" in query:
            yield Fault(
                where,
                "sql_file is given beside sql.",
                "A query has one statement: which of the two is it?",
                "Take one of the two out.",
            )
            continue
        try:
            query["sql"] = (folder / named).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or "It is no text in UTF-8"
            yield Fault(
                where,
                f"sql_file is {named}, which cannot be read.",
                f"{reason}. It is looked for in the folder of the workload file.",
                "Correct the name, or write the statement as sql.",
            )


def _faults_between_keys(query: Query) -> Iterator[Fault]:
    texts = [text for text in (query.sql, query.sql_partitioned, query.sql_rewritten, query.claims) if text]
    names = [name for text in texts for name in parameters(text)]
    if names and not query.bindings:
        yield Fault(
            ("sql",),
            f"bindings is missing, but {query.name} has the parameter %({names[0]})s.",
            "Its values come from a query on the data: a value in the file would be a user's own.",
            f"Write a query as bindings whose row has a column {names[0]}.",
        )
    if query.claims and not query.role:
        yield Fault(
            ("claims",),
            "role is missing beside claims.",
            "Policies read the claims only where row security counts, which it does not for the owner.",
            "Write role: authenticated",
        )
    if any(writes(text) for text in (query.sql, query.sql_rewritten) if text) and not query.writes:
        yield Fault(
            ("sql",),
            f"{query.name} writes, and does not say so.",
            "A query that writes is measured in a transaction that is rolled back; others run read-only.",
            "Write writes: true",
        )


def writes(text: str) -> bool:
    """Whether a statement begins as one that writes."""
    return _WRITES.match(_TOKEN.sub(_without_comment, text).lstrip()) is not None


def _without_comment(found: re.Match[str]) -> str:
    return " " if found["comment"] else found[0]


def _twice(workload: Workload) -> Iterator[Fault]:
    names: set[str] = set()
    for i, query in enumerate(workload.queries):
        if query.name in names:
            yield Fault(
                ("queries", i, "name"),
                f"name is {query.name}, and so it is further up.",
                "Charts and tables tell queries apart by name.",
                "Give one of the two another name.",
            )
        names.add(query.name)


_ONE_QUERY = """queries:
  - name: history_page
    description: the latest 50 messages of a conversation
    table: messages
    sql: SELECT * FROM {table} WHERE conversation_id = %(conversation)s ORDER BY created_at DESC LIMIT 50
    bindings: SELECT conversation_id AS conversation FROM {table} ORDER BY created_at DESC, id LIMIT 1"""

_FORM = yamlfile.Form(
    kind="workload file",
    items="queries",
    item="query",
    item_is="A query",
    example=_ONE_QUERY,
    items_example=_ONE_QUERY,
    top_keys="queries",
    top=Workload.model_fields,
    keys=cast(Any, Query).__pydantic_fields__,
    other_words={
        "query": "sql",
        "statement": "sql",
        "title": "name",
        "note": "description",
        "parameters": "bindings",
        "params": "bindings",
        "calls": "weight",
        "write": "writes",
    },
)
