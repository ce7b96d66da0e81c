"""The plan of the house, held by reading the sources.

Who may import whom, who reads the clock, who may write, what each SQL folder holds. A new module must be
given a room in `ROOMS`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from string import Formatter

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "atlas_ops"
SQL = PACKAGE / "sql"


@dataclass(frozen=True)
class Room:
    """Modules that may import the modules of the rooms named, and nothing else of the package."""

    modules: frozenset[str]
    imports: tuple[str, ...]
    pure: bool = True


def _room(modules: str, *imports: str, pure: bool = True) -> Room:
    return Room(frozenset(modules.split()), imports, pure)


ROOMS = {
    "words": _room("errors model"),
    "calendar": _room("bounds", "words"),
    "parameters": _room("settings spec thresholds workload written yamlfile", "words", "calendar", "parameters"),
    "decisions": _room(
        "sqlfile plan report definition online repoint "
        "division installation copying migration cutover key_checks preflight forecast verify partitions inspection "
        "archive explain advice comparison queryplan timing predicate rewrites idtime index_advice maintain adopt moving scheduling upkeep "
        "health ledger lints policies tables drawing charts query_charts views incoming registry composite keys takeover traffic scratch "
        "querytext asked statements skeleton regression "
        "vitals look structure wear examination growth alerts announcement metrics health_views health_charts told scorecard dashboard trend_charts "
        "parquet contents manifest exports quarantine restore unite",
        *("words", "calendar", "parameters", "decisions"),
    ),
    "reading and writing": _room(
        "database catalog care health_catalog compare sample measure bindings alternatives "
        "throttle exchange runlock execute rehearsal record shelf delivery plan_pages progress magic demo embedded tracked "
        "store programs export feeds months restoring inplace archive_timing",
        *("words", "calendar", "parameters", "decisions", "reading and writing"),
        pure=False,
    ),
    "doors": _room(
        "stages following monitor site run runner cli __init__ __main__",
        *("words", "calendar", "parameters", "decisions", "reading and writing", "doors"),
        pure=False,
    ),
}
ROOM_OF = {module: name for name, room in ROOMS.items() for module in room.modules}

# A folder of modules counts as one.
SOURCES = {path.stem: [path] for path in PACKAGE.glob("*.py")} | {
    path.parent.name: sorted(path.parent.rglob("*.py")) for path in PACKAGE.glob("*/__init__.py")
}
MODULES = sorted(SOURCES)
PURE = [module for module in MODULES if module in ROOM_OF and ROOMS[ROOM_OF[module]].pure]

CONNECTS = {"database", "magic", "demo", "embedded"}
"""Who calls the driver's own connect: everyone else goes through database.connect, which pins and checks."""

WRITES = {"execute", "sample", "archive_timing", "measure", "rehearsal", "demo", "embedded"}
"""Who may ask for a connection that writes.

Only execute keeps what it writes in somebody's database: sample and archive_timing (a temporary table) and measure (a workload's
INSERTs and UPDATEs) roll back, and the demo and its server write to what is theirs alone. The synthetic writer of a
rehearsal is no plan but the application's part: it writes to the scratch copy, which a confirmed plan made and drops.
"""

CLOCKS = {"now", "utcnow", "today", "time_ns", "monotonic", "perf_counter", "localtime", "gmtime"}


def nodes(module: str) -> Iterator[ast.AST]:
    for path in SOURCES[module]:
        yield from ast.walk(ast.parse(path.read_text(), path.name))


def imported(module: str) -> set[str]:
    """The modules of the package that `module` imports, anywhere in it; `__version__` is no module."""
    found: set[str] = set()
    for node in nodes(module):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {(*parts, "__init__")[1] for parts in names if parts[0] == PACKAGE.name}
        elif isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".")
            if node.level:
                parts = [PACKAGE.name, *filter(None, parts)]
            if parts[0] == PACKAGE.name and len(parts) > 1:
                found.add(parts[1])
            elif parts[0] == PACKAGE.name:
                names_of = {alias.name for alias in node.names} - {"__version__"}
                found |= {name if name in MODULES else "__init__" for name in names_of}
    return found


def calls(module: str) -> Iterator[ast.Call]:
    return (node for node in nodes(module) if isinstance(node, ast.Call))


def clock_reads(module: str) -> list[str]:
    """Where a module looks at the clock: datetime.now and its kin, called or passed on, and module time."""
    found = []
    for node in nodes(module):
        if isinstance(node, ast.Import) and "time" in {alias.name for alias in node.names}:
            found.append(f"line {node.lineno}: import time")
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            found.append(f"line {node.lineno}: from time import")
        if isinstance(node, ast.Attribute) and node.attr in CLOCKS and isinstance(node.value, ast.Name | ast.Attribute):
            base = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            if base in {"datetime", "date", "time", "Timestamp"}:
                found.append(f"line {node.lineno}: {base}.{node.attr}")
    return found


# Modules


def test_every_module_has_one_room() -> None:
    placed = [module for room in ROOMS.values() for module in room.modules]
    assert len(placed) == len(set(placed))
    assert [module for module in MODULES if module not in ROOM_OF] == [], "give it a room in ROOMS"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_the_rooms_its_own_may(module: str) -> None:
    allowed = frozenset[str]().union(*(ROOMS[room].modules for room in ROOMS[ROOM_OF[module]].imports))
    assert imported(module) - allowed == set(), f"{module} is in room {ROOM_OF[module]!r}"


def test_no_pure_room_may_import_one_that_is_not() -> None:
    for name, room in ROOMS.items():
        if room.pure:
            assert all(ROOMS[other].pure for other in room.imports), name


@pytest.mark.parametrize("module", PURE)
def test_nothing_pure_reads_the_clock(module: str) -> None:
    assert clock_reads(module) == [], "as_of is an argument"


@pytest.mark.parametrize("module", sorted(set(MODULES) - CONNECTS))
def test_connections_are_made_in_one_place(module: str) -> None:
    direct = [
        f"line {call.lineno}: {ast.unparse(call.func)}"
        for call in calls(module)
        if re.search(r"(psycopg|Connection|sqlalchemy|engine)\.(connect|create_engine)$", ast.unparse(call.func))
    ]
    assert direct == [], "use database.connect"


@pytest.mark.parametrize("module", sorted(set(MODULES) - WRITES))
def test_only_the_writer_asks_for_a_connection_that_writes(module: str) -> None:
    asked = [
        f"line {call.lineno}"
        for call in calls(module)
        for keyword in call.keywords
        if keyword.arg == "write" and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
    ]
    assert asked == [], "let execute run a plan"


# SQL files


def files(folder: str) -> list[Path]:
    return sorted((SQL / folder).glob("*.sql"))


def code(path: Path) -> str:
    """The SQL without comments, quoted texts and bodies of functions: here a keyword is a keyword."""
    text = re.sub(r"\$(\w*)\$.*?\$\1\$", "''", path.read_text(), flags=re.DOTALL)
    text = re.sub(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/", _kept, text, flags=re.DOTALL)
    return text.strip()


def _kept(found: re.Match[str]) -> str:
    return "''" if found[0].startswith(("'", '"')) else " "


def by_name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def test_every_sql_file_lies_in_a_folder_that_has_a_rule() -> None:
    assert {path.parent.relative_to(SQL).as_posix() for path in SQL.rglob("*.sql")} == {
        "catalog",
        "demo",
        "install",
        "ledger",
        "template",
    }


@pytest.mark.parametrize("path", sorted(SQL.rglob("*.sql")), ids=by_name)
def test_a_sql_file_says_what_it_is_on_its_first_line(path: Path) -> None:
    assert re.match(r"-- \S+ \S+", path.read_text())


@pytest.mark.parametrize("path", [*files("catalog"), *files("ledger")], ids=by_name)
def test_a_catalog_file_is_one_statement_that_only_reads(path: Path) -> None:
    statement = code(path).removesuffix(";")
    assert ";" not in statement
    assert re.match(r"(SELECT|WITH)\b", statement)
    writing = r"\b(INSERT|UPDATE|DELETE|MERGE|TRUNCATE|INTO|CREATE|ALTER|DROP|GRANT|REVOKE|CALL|COPY|LOCK)\b"
    assert re.findall(writing, statement, re.IGNORECASE) == []


@pytest.mark.parametrize("path", [*files("catalog"), *files("ledger")], ids=by_name)
def test_a_catalog_file_has_named_parameters_and_no_other_per_cent_sign(path: Path) -> None:
    assert "%" not in re.sub(r"%\([a-z_]+\)s", "", path.read_text()), "psycopg reads comments and literals too"


@pytest.mark.parametrize("path", files("install"), ids=by_name)
def test_an_install_file_makes_the_one_object_it_is_named_after_and_can_be_run_again(path: Path) -> None:
    made = re.findall(r"\bCREATE\s+(.*?)(?=[\s(;]*(?:\(|;|\n|WITH))", code(path))
    [object_made] = made
    again = r"OR REPLACE (FUNCTION|PROCEDURE|VIEW)|(TABLE|SCHEMA) IF NOT EXISTS"
    found = re.fullmatch(rf"(?:{again}) (?P<name>[a-z_.]+)", object_made)
    assert found, object_made
    assert found["name"] == path.name.removesuffix(".sql")


@pytest.mark.parametrize("path", files("install"), ids=by_name)
def test_an_install_file_can_be_pasted_into_psql(path: Path) -> None:
    text = path.read_text()
    assert re.findall(r"%\(\w*\)s|\{\w+\}", text) == []
    assert text.endswith(";\n")


@pytest.mark.parametrize("path", files("template"), ids=by_name)
def test_a_template_has_named_fields_only(path: Path) -> None:
    fields = [field for field in Formatter().parse(path.read_text()) if field[1] is not None]
    assert fields, "a file without fields belongs elsewhere"
    odd = [
        (name, spec, conversion)
        for _, name, spec, conversion in fields
        if not (name or "").isidentifier() or spec or conversion
    ]
    assert odd == []
    assert "%(" not in path.read_text()


# Every file

# Written so that this file does not hold what it looks for.
FOREIGN = re.compile(
    r"(?<![\w.~])/(?:work|root|home|Users)/[\w.]|/tmp/(?:t0|helpers)|py[p]i\.org|python[h]osted|npm[j]s"
)


def product_files() -> Iterator[Path]:
    """Every file but those that git ignores; .gitignore names folders only."""
    ignored = [".git", *(line.removesuffix("/") for line in (ROOT / ".gitignore").read_text().split())]
    folders = [ROOT]
    while folders:
        for entry in sorted(folders.pop().iterdir()):
            if any(fnmatch(entry.name, pattern) for pattern in ignored):
                continue
            if entry.is_dir():
                folders.append(entry)
            elif entry.is_file():
                yield entry


def test_no_file_names_a_path_of_one_machine_or_the_host_of_a_registry() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): sorted({match[0] for match in FOREIGN.finditer(text)})
        for path in product_files()
        if FOREIGN.search(text := path.read_text(errors="replace"))
    }
    assert found == {}
