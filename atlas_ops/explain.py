"""What EXPLAIN (FORMAT JSON) says of a query on both tables: figures, a comparison, and why.

A plan holds the values that were asked for ("Index Cond: (user_id = '...')"): they are users' data. What is
kept of a plan went through `masked`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from typing import Any, Literal

from atlas_ops.errors import AtlasError
from atlas_ops.tables import Column, Table
from atlas_ops.workload import Query

Document = Mapping[str, Any]
"""What EXPLAIN (FORMAT JSON) returns for one statement: "Plan", "Planning Time", "Triggers" and so on."""

Verdict = Literal["faster", "same", "slower", "failed"]

SAME_SHARE = 0.10
"""Times within 10 % of each other are called the same: repeated runs of one plan differ as much."""
SAME_MS = 0.05
"""And so are times less than this apart, which is near what EXPLAIN can tell."""
PROMISED_SHARE = 0.40
"""The guide promises 40 to 60 % less time."""


# Masking


# What a literal can look like once ruleutils has printed it; names and parameters ($1) are kept.
_LITERAL = re.compile(
    r"""[eEbBxX]?'(?:[^'\\]|\\.|'')*'
      |(?P<kept>"(?:[^"]|"")*"|\$\d+|[^\W\d][\w$]*)
      |\d+(?:\.\d+)?(?:e[+-]?\d+)?""",
    re.VERBOSE | re.DOTALL,
)
_NAMES = frozenset(
    {
        "Alias",
        "Cache Mode",
        "Command",
        "Conflict Arbiter Indexes",
        "Conflict Resolution",
        "Constraint Name",
        "CTE Name",
        "Custom Plan Provider",
        "Function Name",
        "Group Method",
        "Index Name",
        "Join Type",
        "Node Type",
        "Operation",
        "Parent Relationship",
        "Partial Mode",
        "Relation",
        "Relation Name",
        "Scan Direction",
        "Schema",
        "Sort Method",
        "Sort Methods Used",
        "Sort Space Type",
        "Storage",
        "Strategy",
        "Subplan Name",
        "Trigger Name",
        "Tuplestore Name",
    }
)
"""Keys under which a plan holds a name or a word of PostgreSQL's. Text under any other key is masked."""


def without_literals(text: str) -> str:
    """`text` of an expression with each literal, quoted or a number, as …; names stay."""
    return _LITERAL.sub(lambda found: found[0] if found["kept"] else "…", text)


def masked(document: Document) -> Document:
    """The same plan without a value in it. Keys nobody knows yet are masked: a new version leaks nothing."""
    return {key: _masked(key, value) for key, value in document.items()}


def _masked(key: str, value: Any) -> Any:
    match value:
        case dict() if key == "Settings":
            return value
        case dict():
            return masked(value)
        case list():
            return [_masked(key, item) for item in value]
        case str() if key not in _NAMES:
            return without_literals(value)
        case _:
            return value


# Figures


@dataclass(frozen=True, slots=True)
class PlanFigures:
    """One run of a query on one table: times in ms, blocks of 8 kB, numbers of leaf partitions."""

    planning_ms: float
    execution_ms: float
    hit_blocks: int
    read_blocks: int
    temp_blocks: int  # written by sorts and hashes that did not fit into work_mem
    wal_bytes: int
    rows: float
    touched: int  # partitions read or written
    never_executed: int  # in the plan, but not reached: pruned at run time, or a LIMIT was full before
    removed: int  # taken out of the plan at the start of the run
    partitions: int  # all there are; 0 for a table that is not partitioned
    bounds_key: bool  # a condition of the plan names the partition key

    @property
    def total_ms(self) -> float:
        """Planning and execution: what the application waits for, but for the network."""
        return self.planning_ms + self.execution_ms


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a query could not be measured on one table, in our words; no SQLSTATE if no server said so."""

    what: str
    sqlstate: str = ""


@dataclass(frozen=True, slots=True)
class Side:
    """A query on one table: figures of the run with the median time, and a run whose nodes were timed.

    `plan` is masked. A side that failed has `failure` and nothing else.
    """

    figures: PlanFigures | None = None
    runs_ms: tuple[float, ...] = ()
    plan: Document | None = None
    leaves: frozenset[str] = frozenset()
    failure: Failure | None = None


def plan_figures(document: Document, leaves: AbstractSet[str], key: str) -> PlanFigures:
    """The figures of one run. `leaves` are the names of the leaf partitions, `key` the partition key."""
    plan = document["Plan"]
    nodes = list(_nodes(plan))
    reached = {node.get("Relation Name") for node in nodes if node.get("Actual Loops", 0)}
    reached |= {trigger.get("Relation") for trigger in document.get("Triggers", ())}
    executed = reached & leaves
    planned = {node.get("Relation Name") for node in nodes} & leaves
    # Tuple routing leaves no trace in a plan without triggers.
    routed = bool(leaves) and not executed and any(node.get("Operation") == "Insert" for node in nodes)
    return PlanFigures(
        planning_ms=document["Planning Time"],
        execution_ms=document["Execution Time"],
        hit_blocks=plan.get("Shared Hit Blocks", 0),
        read_blocks=plan.get("Shared Read Blocks", 0),
        temp_blocks=plan.get("Temp Written Blocks", 0),
        wal_bytes=plan.get("WAL Bytes", 0),
        rows=_rows(plan),
        touched=1 if routed else len(executed),
        never_executed=len(planned - executed),
        removed=sum(node.get("Subplans Removed", 0) for node in nodes),
        partitions=len(leaves),
        bounds_key=any(
            _names(condition, key)
            for node in nodes
            if node.get("Relation Name") in leaves
            for condition in _conditions(node)
        ),
    )


def side(runs: Sequence[Document], timed: Document, leaves: AbstractSet[str], key: str) -> Side:
    """A side out of its runs (the one with the median time speaks) and of the run whose nodes were timed."""
    in_order = sorted((plan_figures(run, leaves, key) for run in runs), key=lambda found: found.total_ms)
    return Side(
        figures=in_order[(len(in_order) - 1) // 2],
        runs_ms=tuple(run["Planning Time"] + run["Execution Time"] for run in runs),
        plan=masked(timed),
        leaves=frozenset(leaves),
    )


def _nodes(plan: Document) -> Iterator[Document]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _rows(node: Document) -> float:
    """Rows of all loops: what EXPLAIN prints is the average of one."""
    return float(node.get("Actual Rows", 0)) * float(node.get("Actual Loops", 0))


def _conditions(node: Document) -> Iterator[str]:
    return (text for key, text in node.items() if key.endswith(("Cond", "Filter")) and isinstance(text, str))


def _names(condition: str, key: str) -> bool:
    """Whether a condition names the column, outside of its literals."""
    quoted = '"' + key.replace('"', '""') + '"'
    pattern = rf'(?<![\w$"])(?:{re.escape(key)}|{re.escape(quoted)})(?![\w$"])'
    return re.search(pattern, without_literals(condition)) is not None


# The comparison


@dataclass(frozen=True, slots=True)
class QueryResult:
    """A query on the original and on the partitioned table."""

    query: Query
    partition_key: str
    original: Side
    partitioned: Side

    @property
    def name(self) -> str:
        """The name of the query."""
        return self.query.name

    @property
    def ratio(self) -> float | None:
        """The partitioned table's time over the original's: below 1 is faster. None if either side failed."""
        before, after = self.original.figures, self.partitioned.figures
        return after.total_ms / max(before.total_ms, 0.001) if before and after else None

    @property
    def verdict(self) -> Verdict:
        """faster or slower where the times differ by more than 10 % and 0.05 ms."""
        before, after, ratio = self.original.figures, self.partitioned.figures, self.ratio
        if before is None or after is None or ratio is None:
            return "failed"
        if abs(ratio - 1) <= SAME_SHARE or abs(after.total_ms - before.total_ms) < SAME_MS:
            return "same"
        return "faster" if ratio < 1 else "slower"

    @property
    def keeps_promise(self) -> bool:
        """Whether the query takes at least 40 % less time, as the guide says all will."""
        return self.verdict == "faster" and (self.ratio or 1) <= 1 - PROMISED_SHARE

    @property
    def as_expected(self) -> bool | None:
        """Whether it read no more partitions than the workload expects; None where nothing is expected."""
        after = self.partitioned.figures
        if self.query.prunes_to is None:
            return None
        return after is not None and after.touched <= self.query.prunes_to

    @property
    def why(self) -> str:
        """What the plans tell about the verdict, in a sentence or a few."""
        return " ".join(_reasons(self))


def _reasons(result: QueryResult) -> Iterator[str]:
    for where, side in (("the original", result.original), ("the partitioned table", result.partitioned)):
        if side.failure:
            state = f" ({side.failure.sqlstate})" if side.failure.sqlstate else ""
            yield f"On {where}: {side.failure.what}{state}"
    before, after = result.original.figures, result.partitioned.figures
    if before is None or after is None:
        return
    if before.rows != after.rows:
        yield (
            f"Not the same answer: {before.rows:,.0f} rows from the original, {after.rows:,.0f} from the"
            " partitioned table. See 03 Verify counts."
        )
    yield _pruning(result.partition_key, after)
    if result.as_expected is False:
        yield f"Expected were at most {result.query.prunes_to}."
    more_planning, more = after.planning_ms - before.planning_ms, after.total_ms - before.total_ms
    if result.verdict == "slower" and more_planning > more / 2:
        yield (f"Most of the difference is planning: {after.planning_ms:.1f} ms instead of {before.planning_ms:.1f}.")
    if after.temp_blocks > before.temp_blocks:
        yield "It sorts or hashes on disk."


def _pruning(key: str, after: PlanFigures) -> str:
    touched, there = after.touched, after.partitions
    if touched >= there:
        because = "bounded, but none drops out" if after.bounds_key else "not bounded"
        return f"Reads all {there} partitions: {key} is {because}."
    reads = f"Reads {touched} of {there} partitions"
    if after.never_executed and not after.bounds_key:
        return f"{reads} and has enough, {after.never_executed} more are planned: {key} is not bounded."
    return f"{reads}."


# For reading


def verdict_sentence(results: Sequence[QueryResult]) -> str:
    """How many queries are faster, the same, slower, and what is left of the guide's claim."""
    measured = [result for result in results if result.verdict != "failed"]
    if not measured:
        return "No query was measured on both tables." if results else "No query was asked."
    number = Counter(result.verdict for result in results)
    kept = sum(result.keeps_promise for result in measured)
    failed = f", {number['failed']} failed" if number["failed"] else ""
    noun = "query" if len(results) == 1 else "queries"
    return (
        f"{number['faster']} of {len(results)} {noun} faster, {number['same']} the same, "
        f"{number['slower']} slower{failed}; the guide's 40 % holds for {kept or 'none'}."
        f"{_weighted(measured)}"
    )


def _weighted(measured: Sequence[QueryResult]) -> str:
    """The time of an average call, if the workload says how often each is made."""
    weighted = [
        (result.query.weight, before.total_ms, after.total_ms)
        for result, before, after in _measured(measured)
        if result.query.weight is not None
    ]
    if len(weighted) < len(measured):
        return ""
    calls = sum(weight for weight, _, _ in weighted)
    original = sum(weight * ms for weight, ms, _ in weighted) / calls
    partitioned = sum(weight * ms for weight, _, ms in weighted) / calls
    return (
        f" By the number of calls: {original:.2f} ms a call on the original,"
        f" {partitioned:.2f} on the partitioned table."
    )


def time_rows(results: Iterable[QueryResult]) -> list[tuple[str, float, float, str]]:
    """(query, original ms, partitioned ms, verdict) for `charts.query_times`; queries that failed are left out."""
    return [
        (result.name, before.total_ms, after.total_ms, result.verdict) for result, before, after in _measured(results)
    ]


def touched_rows(results: Iterable[QueryResult]) -> list[tuple[str, int, int]]:
    """(query, partitions read, partitions) for `charts.partitions_touched`; without those that failed."""
    return [(result.name, after.touched, after.partitions) for result, _, after in _measured(results)]


def _measured(results: Iterable[QueryResult]) -> Iterator[tuple[QueryResult, PlanFigures, PlanFigures]]:
    """The results that have figures of both sides, with these."""
    for result in results:
        before, after = result.original.figures, result.partitioned.figures
        if before and after:
            yield result, before, after


def figures(results: Iterable[QueryResult]) -> list[dict[str, Any]]:
    """The results as JSON types, for the record: figures, verdicts and SQLSTATEs, no value and no plan."""
    return [
        {
            "query": result.name,
            "verdict": result.verdict,
            "ratio": result.ratio,
            "why": result.why,
            "original": _side_figures(result.original),
            "partitioned": _side_figures(result.partitioned),
        }
        for result in results
    ]


def _side_figures(side: Side) -> dict[str, Any]:
    if side.failure:
        return asdict(side.failure)
    return {**(asdict(side.figures) if side.figures else {}), "runs_ms": list(side.runs_ms)}


def overview(results: Sequence[QueryResult]) -> Table:
    """A line a query: both times, blocks, partitions read, the verdict and why."""
    runs = max((len(result.original.runs_ms) for result in results), default=0)
    return Table(
        [
            "query",
            "original ms",
            "partitioned ms",
            Column("times as long", "text"),
            "blocks",
            "blocks partitioned",
            Column("partitions read", "text"),
            "verdict",
            "why",
        ],
        [_line(result) for result in results],
        caption=f"Planning and execution, median of {runs} runs on a warm cache. A first measure, without an interval.",
    )


def _line(result: QueryResult) -> tuple[object, ...]:
    before, after, ratio = result.original.figures, result.partitioned.figures, result.ratio
    return (
        result.name,
        before and round(before.total_ms, 3),
        after and round(after.total_ms, 3),
        f"{ratio:.2f}" if ratio is not None else None,
        before and before.hit_blocks + before.read_blocks,
        after and after.hit_blocks + after.read_blocks,
        f"{after.touched} of {after.partitions}" if after else None,
        result.verdict,
        result.why,
    )


@dataclass(frozen=True, slots=True)
class _Node:
    """A node of a plan, or several of a kind on partitions that are shown as one."""

    kind: str
    relations: tuple[str, ...]
    on_partitions: bool
    estimated: float
    rows: float
    own_ms: float
    hit: int
    read: int
    unreached: int
    children: tuple[_Node, ...]

    @property
    def shape(self) -> tuple[object, ...]:
        """What two nodes have in common that can be shown as one."""
        return (self.kind, self.on_partitions or self.relations, *(child.shape for child in self.children))


def plan_table(result: QueryResult, side: str) -> Table:
    """The plan of one side ("original" or "partitioned"), a line a node; alike partitions share a line.

    Rows and blocks are of all loops, own ms without the nodes below. Raises AtlasError for another side.
    """
    sides = {
        "original": (result.original, "original"),
        "partitioned": (result.partitioned, "partitioned table"),
    }
    if side not in sides:
        raise AtlasError(
            what="There is no such side.",
            why="A query is measured on two tables: original and partitioned.",
            next='Write "original" or "partitioned".',
        )
    found, where = sides[side]
    caption = f"{result.name} on the {where}"
    if found.plan is None:
        caption += f": {found.failure.what}" if found.failure else ""
        return Table(["node", "relation"], [], caption)
    root = _tree(found.plan["Plan"], found.leaves)
    return Table(
        ["node", "relation", "rows estimated", "rows", "own ms", "hit blocks", "read blocks"],
        list(_lines(root, 0)),
        caption,
    )


def _tree(node: Document, leaves: AbstractSet[str]) -> _Node:
    below = node.get("Plans", ())
    loops = node.get("Actual Loops", 0)
    relation = node.get("Relation Name") or node.get("CTE Name") or node.get("Function Name")
    kind = node.get("Operation", node["Node Type"])  # Update says more than ModifyTable

    def own(figure: Callable[[Document], float]) -> float:
        return max(0.0, figure(node) - sum(figure(child) for child in below))

    return _Node(
        kind=f"{kind} ({node['Subplan Name']})" if "Subplan Name" in node else kind,
        relations=(relation,) if relation else (),
        on_partitions=relation in leaves,
        estimated=node["Plan Rows"] * max(loops, 1),
        rows=_rows(node),
        own_ms=own(_elapsed),
        hit=round(own(lambda of: of.get("Shared Hit Blocks", 0))),
        read=round(own(lambda of: of.get("Shared Read Blocks", 0))),
        unreached=int(loops == 0),
        children=_together([_tree(child, leaves) for child in below]),
    )


def _elapsed(node: Document) -> float:
    return float(node.get("Actual Total Time", 0)) * float(node.get("Actual Loops", 0))


def _together(nodes: Iterable[_Node]) -> tuple[_Node, ...]:
    """Siblings on partitions that have one shape become one; the others stay as they are."""
    groups: dict[object, list[_Node]] = {}
    for number, node in enumerate(nodes):
        groups.setdefault(node.shape if _reads_partition(node) else number, []).append(node)
    return tuple(_one(group) for group in groups.values())


def _reads_partition(node: _Node) -> bool:
    return node.on_partitions or any(_reads_partition(child) for child in node.children)


def _one(group: Sequence[_Node]) -> _Node:
    return _Node(
        kind=group[0].kind,
        relations=tuple(relation for node in group for relation in node.relations),
        on_partitions=group[0].on_partitions,
        estimated=sum(node.estimated for node in group),
        rows=sum(node.rows for node in group),
        own_ms=sum(node.own_ms for node in group),
        hit=sum(node.hit for node in group),
        read=sum(node.read for node in group),
        unreached=sum(node.unreached for node in group),
        children=tuple(_one(alike) for alike in zip(*(node.children for node in group), strict=True)),
    )


def _lines(node: _Node, depth: int) -> Iterator[tuple[object, ...]]:
    yield (
        "· " * depth + node.kind,
        _relation(node),
        round(node.estimated),
        round(node.rows),
        round(node.own_ms, 3),
        node.hit,
        node.read,
    )
    for child in node.children:
        yield from _lines(child, depth + 1)


def _relation(node: _Node) -> str | None:
    names = node.relations
    if not names:
        return "not reached" if node.unreached else None
    several = f"{names[0]} … {names[-1]} ({len(names)})" if len(names) > 1 else names[0]
    if not node.unreached:
        return several
    return f"{several}, {'' if node.unreached == len(names) else f'{node.unreached} '}not reached"
