"""What EXPLAIN (FORMAT JSON) says of one run of a query: masked of values, as figures, as a shape, as a table. Pure.

A plan holds the values that were asked for ("Index Cond: (user_id = '...')"): they are users' data. What is
kept of a plan went through `masked`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from atlas_ops.model import LeafIndex
from atlas_ops.tables import Table

Document = Mapping[str, Any]
"""What EXPLAIN (FORMAT JSON) returns for one statement: "Plan", "Planning Time", "Triggers" and so on."""


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
    planned: int  # partitions in the plan: what pruning at plan time left
    never_executed: int  # in the plan, but not reached: pruned at run time, or a LIMIT was full before
    removed: int  # taken out of the plan at the start of the run
    partitions: int  # all there are; 0 for a table that is not partitioned
    bounds_key: bool  # a condition of the plan names the partition key

    @property
    def total_ms(self) -> float:
        """Planning and execution: what the application waits for, but for the network."""
        return self.planning_ms + self.execution_ms


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
        planned=1 if routed else len(planned | executed) + sum(node.get("Subplans Removed", 0) for node in nodes),
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


def average(found: Sequence[PlanFigures]) -> PlanFigures:
    """The figures of a call whose values are each of several: means, and the most partitions of any.

    `found` holds one at least.
    """
    means = {
        name: sum(getattr(each, name) for each in found) / len(found)
        for name in ("planning_ms", "execution_ms", "rows")
    }
    blocks = {
        name: round(sum(getattr(each, name) for each in found) / len(found))
        for name in ("hit_blocks", "read_blocks", "temp_blocks", "wal_bytes")
    }
    most = {
        name: max(getattr(each, name) for each in found)
        for name in ("touched", "planned", "never_executed", "removed", "partitions")
    }
    return PlanFigures(**means, **blocks, **most, bounds_key=any(each.bounds_key for each in found))


# The shape


_SHAPES = ("Node Type", "Operation", "Strategy", "Partial Mode", "Join Type", "Scan Direction", "Parent Relationship")
_CONDITIONS = (
    "Index Cond",
    "Filter",
    "Hash Cond",
    "Merge Cond",
    "Join Filter",
    "Recheck Cond",
    "Sort Key",
    "Group Key",
)


def shape(plan: Document, leaves: Leaves) -> str:
    """Eight hexadecimal digits that stay the same while the plan does, whatever its partitions are called or number.

    Costs, rows and values do not count; the kind of each node, its relation, its index and which conditions it has do.
    """
    told = json.dumps(_shape(plan["Plan"], leaves), sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:8]


def _shape(node: Document, leaves: Leaves) -> list[Any]:
    relation, index = node.get("Relation Name"), node.get("Index Name", "")
    own = [node.get(key) for key in _SHAPES] + [key for key in _CONDITIONS if key in node]
    own += ["a partition" if relation in leaves.names else relation, leaves.parents.get(index, index)]
    below = [json.dumps(_shape(child, leaves)) for child in node.get("Plans", ())]
    if node["Node Type"] in {"Append", "Merge Append", "ModifyTable"}:
        below = sorted(set(below))  # a month more, or one that was pruned, is no other plan
    return [own, below]


@dataclass(frozen=True, slots=True)
class Leaves:
    """The leaf partitions of a table, by the names a plan gives them and their indexes."""

    names: frozenset[str] = frozenset()
    parents: Mapping[str, str] = field(default_factory=dict)  # by index: that of the partitioned table it is part of
    tails: Mapping[str, str] = field(default_factory=dict)  # by index: its definition from USING on
    indexed: Mapping[str, frozenset[str]] = field(default_factory=dict)  # by partition: these definitions

    @classmethod
    def of(cls, found: Sequence[LeafIndex]) -> Leaves:
        """From a row an index."""
        tails: dict[str, set[str]] = {each.leaf: set() for each in found}
        for each in found:
            if each.tail is not None:
                tails[each.leaf].add(each.tail)
        return cls(
            frozenset(tails),
            {each.name: each.parent for each in found if each.name and each.parent},
            {each.name: each.tail for each in found if each.name and each.tail},
            {leaf: frozenset(some) for leaf, some in tails.items()},
        )


def unindexed(plan: Document, leaves: Leaves) -> tuple[str, ...]:
    """Partitions that the plan reads row by row and that lack an index which it uses on most of those it reads."""
    scans = [node for node in _nodes(plan["Plan"]) if node.get("Relation Name") in leaves.names]
    used = Counter(
        leaves.tails[name]
        for scan in scans
        for name in {node["Index Name"] for node in _nodes(scan) if node.get("Index Name") in leaves.tails}
    )
    if not used:
        return ()
    usual, times = used.most_common(1)[0]
    whole = {scan["Relation Name"] for scan in scans if scan["Node Type"].endswith("Seq Scan")}
    lacking = sorted(leaf for leaf in whole if usual not in leaves.indexed.get(leaf, ()))
    return tuple(lacking) if times > len(lacking) else ()


def sorts(plan: Document) -> int:
    """How many nodes sort."""
    return sum(node["Node Type"].endswith("Sort") for node in _nodes(plan["Plan"]))


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


# For reading


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


def plan_table(plan: Document, leaves: AbstractSet[str], caption: str) -> Table:
    """A plan, a line a node; partitions that are read alike share a line.

    Rows and blocks are of all loops, own ms without the nodes below.
    """
    return Table(
        ["node", "relation", "rows estimated", "rows", "own ms", "hit blocks", "read blocks"],
        list(_lines(_tree(plan["Plan"], leaves), 0)),
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
