"""`%load_ext atlas_ops`: the `%%sql` of ipython-sql, made strict, for the questions a DBA asks by hand.

It differs from the stock magic where that one would mislead an audit record: it reads only, fails loudly in
three lines, has one connection which it is given (never one that is looked up, never one from a cell), and
sends the text as it was written, but for `{name}` and `:name` of variables that exist.

`%config SqlMagic.displaylimit = 50` and the options autolimit, autopandas, column_local_vars, feedback and
style go on working. What a query returns is shown: whether to select rows of an application's users is the
reader's own decision.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import prettytable
import psycopg
import sqlalchemy
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import cell_magic, line_magic, magics_class, needs_local_scope, no_var_expand
from psycopg.abc import Buffer
from psycopg.pq import TransactionStatus
from psycopg.types.datetime import DateLoader, TimestampLoader, TimestamptzLoader
from sql.connection import Connection
from sql.magic import SqlMagic as StockMagic
from sql.run import ResultSet as StockResultSet
from sqlalchemy.pool import NullPool
from traitlets import Bool, Int

from atlas_ops.errors import AtlasError
from atlas_ops.tables import Column, Table

if TYPE_CHECKING:
    import pandas as pd

DISPLAY_LIMIT = 60  # rows shown; the result holds them all

# A URL with a password, PASSWORD 'literal', password = 'literal', and libpq's own password=word.
_PASSWORD = re.compile(r"://[^\s/@:]*:[^\s/@]+@|\bpassword\s*=?\s*'[^']|\bpassword=\w", re.IGNORECASE)
# What the stock magic takes for a connection at the start of a cell: a URL, user@database, [section].
_CONNECTION = re.compile(r"\s*([A-Za-z][\w+]*://|[\w.-]+@[\w.-]+(\s|$)|\[[\w.-]+\](\s|$))")
_OPTION = re.compile(
    r"\s*(-[lxcspaf]|--(connections|close|creator|section|persist|append|connection_arguments|file))(\s|$)"
)
_RESULT_NAME = re.compile(r"\s*([A-Za-z_]\w*)\s*<<")
_NAME = re.compile(r"(?<!\{)\{([A-Za-z_]\w*)\}(?!\})")
# Not `::cast`, not the slices `a[:n]` and `a[1:n]`.
_BIND = re.compile(r"(?<![:\w\[\]]):([A-Za-z_]\w*)")
# Where a semicolon or a colon is only a character (PostgreSQL manual, 4.1 Lexical Structure).
_LITERAL = re.compile(
    r"""--[^\n]* | /\*.*?\*/ | \b[eE]'(?:[^'\\]|''|\\.)*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
        | (?<![\w$])\$(?P<tag>[A-Za-z_]\w*)?\$.*?\$(?(tag)(?P=tag))\$""",
    re.VERBOSE | re.DOTALL,
)
_NEXT = {
    "25006": "%%sql only asks. To change something, let a stage of atlas_ops plan it, or use psql.",
    "42601": "Correct the query. A name in braces is replaced only where a variable of that name exists.",
    "57014": "Narrow the query, or run SET statement_timeout = '10min' in a cell of its own and try again.",
    "55P03": "Somebody holds a lock on the table: see pg_blocking_pids(), then try again.",
}


class ResultSet(StockResultSet):  # type: ignore[misc]
    """ipython-sql's result, a list of rows with `dict()` and `DataFrame()`, shown as the other tables are."""

    def __repr__(self) -> str:
        return "\n".join(self._plan()) if self._is_plan() else repr(self._table())

    __str__ = __repr__

    def _repr_html_(self) -> str:
        if self._is_plan():
            return Table([Column("QUERY PLAN", "sql")], [["\n".join(self._plan())]])._repr_html_()
        return self._table()._repr_html_()

    def DataFrame(self) -> pd.DataFrame:
        """All the rows as a DataFrame, its columns named even where there is no row."""
        return Table(list(self.field_names), [tuple(row) for row in self]).frame()

    def _table(self) -> Table:
        limit = self.config.displaylimit or len(self)
        columns = [Column(str(name), "text") for name in self.field_names]
        return Table(columns, [[_shown(value) for value in row] for row in self], limit=limit)

    def _is_plan(self) -> bool:
        return list(self.field_names) == ["QUERY PLAN"]

    def _plan(self) -> list[str]:
        return [row[0] if isinstance(row[0], str) else json.dumps(row[0], indent=2) for row in self]


@magics_class
class SqlMagic(StockMagic):  # type: ignore[misc]
    """Runs SQL on the connection that the notebook's setup cell has made; read-only."""

    displaycon = Bool(False, config=True, help="Kept for compatibility: there is one connection")
    displaylimit = Int(DISPLAY_LIMIT, config=True, allow_none=True, help="Rows shown (the result holds all)")
    feedback = Bool(False, config=True, help="Print the number of rows of each statement")

    @no_var_expand  # type: ignore[untyped-decorator]
    @needs_local_scope  # type: ignore[untyped-decorator]
    @line_magic("sql")  # type: ignore[untyped-decorator]
    @cell_magic("sql")  # type: ignore[untyped-decorator]
    def execute(self, line: str = "", cell: str = "", local_ns: Mapping[str, Any] | None = None) -> Any:
        """Run one or several statements, each on its own, and return the rows of the last.

        `{name}` is replaced by the text of that variable, `:name` is sent as a parameter with its value;
        both only if the variable exists. `rows << SELECT ...` keeps the result under a name, `rows = %sql
        SELECT ...` too. Raises AtlasError for whatever the server refuses.
        """
        source = f"{line}\n{cell}"
        _refuse_password(source)
        _refuse_other_connection(source)
        connection = _current()
        names = {**self.shell.user_ns, **(local_ns or {})}
        target = _RESULT_NAME.match(source)
        text = _expanded(source[target.end() :] if target else source, names)
        result = None
        for statement in statements(text):
            result = self._rows(connection, statement, names)
        if result is not None and self.column_local_vars:
            self.shell.user_ns.update(result.dict())
            return None
        answer = result.DataFrame() if result is not None and self.autopandas else result
        if target:
            self.shell.user_ns[target[1]] = answer
            return None
        return answer

    def _rows(self, connection: sqlalchemy.Connection, statement: str, names: Mapping[str, Any]) -> ResultSet | None:
        """One statement in a transaction of its own, read-only whatever the statement before has set."""
        text, values = bound(statement, names)
        # Without parameters psycopg must not look for placeholders: it would find one after each %.
        options = {} if values else {"no_parameters": True}
        try:
            connection.exec_driver_sql("SET default_transaction_read_only = on")
            cursor = connection.exec_driver_sql(text, values or None, execution_options=options)
            rows = ResultSet(cursor, self) if cursor.returns_rows else None
            if self.feedback:
                print(f"{max(cursor.rowcount, 0):,} rows")
            status = _status(connection)
        except sqlalchemy.exc.DBAPIError as error:
            if not connection.invalidated and _status(connection) is TransactionStatus.ACTIVE:
                connection.invalidate()  # COPY to a client that does not listen: only a new connection helps
            raise _explained(error.orig, statement) from None
        finally:
            connection.rollback()
        if status is not TransactionStatus.IDLE:
            raise AtlasError(
                what="%%sql does not hold a transaction open; it was rolled back.",
                why="Each statement stands alone, so that a cell may be run at any time, in any order.",
                next="Leave out BEGIN. For several reads of one snapshot use a WITH query, or psql.",
            )
        return rows


def adopt(conninfo: str, *, statement_timeout_ms: int = 60_000, lock_timeout_ms: int = 2_000) -> sqlalchemy.Engine:
    """Make `conninfo` the one connection of `%%sql`, in place of any before; returns its engine.

    Read-only, UTC, each statement its own transaction. No URL is made of it: one that does not exist cannot
    be printed. Raises AtlasError when the server cannot be reached.
    """

    def connect() -> psycopg.Connection:
        connection = psycopg.connect(
            conninfo, autocommit=True, application_name="atlas_ops %%sql", prepare_threshold=None
        )
        settings = {
            "default_transaction_read_only": "on",
            "statement_timeout": f"{statement_timeout_ms}ms",
            "lock_timeout": f"{lock_timeout_ms}ms",
            "TimeZone": "UTC",
        }
        # SET and not libpq's options: a pooler in session mode does not pass those on.
        for name, value in settings.items():
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        connection.add_notice_handler(lambda notice: print(f"{notice.severity}: {notice.message_primary}"))
        for name, loader in (("date", _Date), ("timestamp", _Timestamp), ("timestamptz", _Timestamptz)):
            connection.adapters.register_loader(name, loader)
        return connection

    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://",
        creator=connect,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
    )
    try:
        link = engine.connect()
    except sqlalchemy.exc.DBAPIError:
        # Without the driver's own text: it can repeat a password that holds an @.
        raise AtlasError(
            what="%%sql cannot reach the database.",
            why="The connection of this notebook's setup cell could not be opened a second time.",
            next="Try the same with psql: is the server up, and has the role a connection to spare?",
        ) from None
    _forget()
    Connection.current = _registered(engine, link)
    return engine


def statements(text: str) -> list[str]:
    """The statements of a text, split at the semicolons that are neither quoted nor commented out."""
    found, code = [""], [False]
    for is_code, part in _parts(text):
        pieces = part.split(";") if is_code else [part]
        found[-1] += pieces[0]
        code[-1] |= bool(pieces[0].strip()) if is_code else not part.startswith(("--", "/*"))
        found += pieces[1:]
        code += [bool(piece.strip()) for piece in pieces[1:]]
    return [statement.strip() for statement, has_code in zip(found, code, strict=True) if has_code]


def bound(statement: str, names: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The statement in psycopg's form and the values of its `:name` parameters; as it is without any."""
    values: dict[str, Any] = {}

    def placeholder(match: re.Match[str]) -> str:
        if match[1] not in names:
            return match[0]
        values[match[1]] = names[match[1]]
        return f"%({match[1]})s"

    parts = [
        _BIND.sub(placeholder, part.replace("%", "%%")) if is_code else part.replace("%", "%%")
        for is_code, part in _parts(statement)
    ]
    return ("".join(parts), values) if values else (statement, {})


def load_ipython_extension(shell: InteractiveShell) -> None:
    """IPython's hook for `%load_ext atlas_ops`."""
    # prettytable 3.12 dropped the names by which ipython-sql 0.5 looks up its styles: KeyError at a SELECT.
    for style in getattr(prettytable, "TableStyle", ()):
        vars(prettytable).setdefault(style.name, style)
    # %config takes the first class of a name: one of the stock magic must not stand before ours.
    shell.configurables[:] = [known for known in shell.configurables if type(known).__name__ != SqlMagic.__name__]
    shell.register_magics(SqlMagic)


def _parts(text: str) -> Iterator[tuple[bool, str]]:
    """The text in pieces, each with whether it is code (and not a literal, a quoted name or a comment)."""
    position = 0
    for match in _LITERAL.finditer(text):
        yield True, text[position : match.start()]
        yield False, match[0]
        position = match.end()
    yield True, text[position:]


def _expanded(text: str, names: Mapping[str, Any]) -> str:
    return _NAME.sub(lambda match: str(names[match[1]]) if match[1] in names else match[0], text)


def _shown(value: object) -> object:
    """Arrays and JSON as JSON; everything else as it is."""
    return json.dumps(value, default=str, ensure_ascii=False) if isinstance(value, list | dict) else value


def _refuse_password(source: str) -> None:
    if _PASSWORD.search(source):
        raise AtlasError(
            what="This cell holds a password; it was not run.",
            why="A notebook is kept as a record, and its cells with it.",
            next="Delete it from the cell and change it. Passwords belong into ~/.pgpass, which libpq reads.",
        )


def _refuse_other_connection(source: str) -> None:
    if _CONNECTION.match(source) or _OPTION.match(source):
        raise AtlasError(
            what="%%sql takes SQL only: no connection and no option.",
            why="A notebook asks one database, the one its record names.",
            next='Name another in the parameter "database" and run the notebook from its start.',
        )


def _current() -> sqlalchemy.Connection:
    if Connection.current is None:
        raise AtlasError(
            what="%%sql has no connection yet.",
            why="The cell that starts the notebook makes it.",
            next="Run the notebook from its start: ops.start(...) comes before the first %%sql.",
        )
    link: sqlalchemy.Connection = Connection.current.internal_connection
    return link


def _status(connection: sqlalchemy.Connection) -> TransactionStatus:
    driver: Any = connection.connection.driver_connection
    return TransactionStatus(driver.info.transaction_status)


def _forget() -> None:
    for known in Connection.connections.values():
        known.internal_connection.close()
    Connection.connections.clear()
    Connection.current = None


def _registered(engine: sqlalchemy.Engine, link: sqlalchemy.Connection) -> Connection:
    """ipython-sql's own record of a connection; its constructor would insist on connecting by URL."""
    driver: Any = link.connection.driver_connection
    known = Connection.__new__(Connection)
    known.url, known.dialect, known.connect_args = engine.url, engine.dialect, {}
    known.name = f"{driver.info.user}@{driver.info.dbname}"
    known.internal_connection = link
    Connection.connections[known.name] = known
    return known


def _explained(error: BaseException | None, statement: str) -> AtlasError:
    """The server's own message, without DETAIL (it quotes rows) and the value of a data exception."""
    state = getattr(error, "sqlstate", None)
    if not isinstance(error, psycopg.Error) or state is None:
        lines = str(error).splitlines() or ["no reason given"]
        return AtlasError(
            what="The query could not be run.",
            why=lines[0],
            next="If the connection was lost, run the cell again: it connects anew.",
        )
    message = (error.diag.message_primary or "").partition("\n")[0]
    if state.startswith("22"):
        message = re.sub(r': ".*', "", message)
    at = error.diag.statement_position
    line = statement[: int(at)].count("\n") + 1 if at and "\n" in statement else 0
    return AtlasError(
        what=f"{message}." if not line else f"{message} (line {line} of the statement).",
        why=f"SQLSTATE {state}, {type(error).__name__}.",
        next=error.diag.message_hint or _NEXT.get(state, "Correct the query and run the cell again."),
    )


class _Date(DateLoader):
    """'infinity' and years after 9999, which Python has no date for, as PostgreSQL's text."""

    def load(self, data: Buffer) -> Any:
        try:
            return super().load(data)
        except psycopg.DataError:
            return bytes(data).decode()


class _Timestamp(TimestampLoader):
    """As `_Date`."""

    def load(self, data: Buffer) -> Any:
        try:
            return super().load(data)
        except psycopg.DataError:
            return bytes(data).decode()


class _Timestamptz(TimestamptzLoader):
    """As `_Date`."""

    def load(self, data: Buffer) -> Any:
        try:
            return super().load(data)
        except psycopg.DataError:
            return bytes(data).decode()
