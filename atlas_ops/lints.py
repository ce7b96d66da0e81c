"""The lints of Supabase's advisor that concern a table under care, and what was made for it; by the advisor's own names. Pure.

What is true of the original is its owner's business: a note, and nothing is changed unasked; what it has, the partitioned table has too. What
was made here (partitions, key log, registry, functions, view) must be clean: a finding there is red.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from atlas_ops import cutover, installation, policies
from atlas_ops.definition import plainly
from atlas_ops.model import Lint, Snapshot
from atlas_ops.partitions import listed
from atlas_ops.report import Check, Severity
from atlas_ops.spec import TableSpec

INITPLAN = "0003_auth_rls_initplan"

# Why it matters, and what to do; in the advisor's order.
WORDS = {
    "0001_unindexed_foreign_keys": (
        "A DELETE in the table that is referred to reads all of this one.",
        "CREATE INDEX CONCURRENTLY on the columns of the foreign key.",
    ),
    INITPLAN: (
        "The function is called once for every row that is looked at.",
        "01 Preflight and 05 Explain analysis show the statement to try.",
    ),
    "0004_no_primary_key": (
        "A row cannot be named, and logical replication cannot follow it.",
        "Add a primary key.",
    ),
    "0006_multiple_permissive_policies": (
        "Each of them is asked for every row, and any one of them lets it pass.",
        "Join them into one policy with OR; drop those that say the same.",
    ),
    "0007_policy_exists_rls_disabled": (
        "The policies look as if they protected the table, and do nothing.",
        "ALTER TABLE ... ENABLE ROW LEVEL SECURITY.",
    ),
    "0008_rls_enabled_no_policy": (
        "Nobody but the owner and roles with BYPASSRLS sees a row.",
        "Make a policy, if the application is to read it.",
    ),
    "0009_duplicate_index": (
        "Each write keeps all of them, and a read uses one.",
        "DROP INDEX CONCURRENTLY all but one.",
    ),
    "0010_security_definer_view": (
        "It shows what its owner may see, whatever the policies say.",
        "ALTER VIEW ... SET (security_invoker = true).",
    ),
    "0011_function_search_path_mutable": (
        "Names in it mean what the caller's search_path makes of them.",
        "ALTER FUNCTION ... SET search_path = '', with qualified names in its body.",
    ),
    "0013_rls_disabled_in_public": (
        "Whoever has a privilege on it reaches every row.",
        "ALTER TABLE ... ENABLE ROW LEVEL SECURITY, with the policies that the application needs.",
    ),
    "0028_anon_security_definer_function_executable": (
        "Anybody runs it with its owner's rights.",
        "REVOKE EXECUTE ON FUNCTION ... FROM PUBLIC, anon.",
    ),
    "0029_authenticated_security_definer_function_executable": (
        "Every user runs it with its owner's rights.",
        "REVOKE EXECUTE ON FUNCTION ... FROM PUBLIC, authenticated.",
    ),
}


def checks(spec: TableSpec, snapshot: Snapshot, found: Sequence[Lint]) -> tuple[Check, ...]:
    """A line for each lint: OK, a note about what is the owner's, red about what is ours."""
    found = [*found, *_per_row(snapshot)]
    return tuple(check for lint in WORDS for check in _lines(spec, snapshot, lint, found))


def _per_row(snapshot: Snapshot) -> Iterator[Lint]:
    for relation in filter(None, (snapshot.original, snapshot.partitioned)):
        for policy in policies.per_row(relation):
            yield Lint(INITPLAN, relation.table.schema, relation.table.name, policy.name, policy.name)


def _lines(spec: TableSpec, snapshot: Snapshot, lint: str, found: Sequence[Lint]) -> Iterator[Check]:
    own = [each for each in found if each.lint == lint]
    whose = [(_whose(spec, snapshot, each, own), each) for each in own]
    ours, theirs = ([each for owner, each in whose if owner == wanted] for wanted in ("ours", "theirs"))
    why, cure = WORDS[lint]
    if ours:
        yield Check(
            Severity.STOP, spec.table, lint, _told(ours), why, f"It was made here, and should not be so. {cure}"
        )
    if theirs:
        yield Check(Severity.NOTE, spec.table, lint, _told(theirs), why, f"Yours to decide. {cure}")
    if not (ours or theirs):
        yield Check(Severity.OK, spec.table, lint, "Nothing was found.")


def _whose(spec: TableSpec, snapshot: Snapshot, lint: Lint, alike: Sequence[Lint]) -> str:
    """ours, theirs; '' for what need not be told: a retired table, and a copy of what the original has."""
    at, original, partitioned = (lint.schema, lint.name), tuple(spec.original_at), tuple(spec.partitioned_at)
    tables = {(each.schema, each.name) for each in snapshot.partitions}
    if at[0] == "atlas_ops" or (at[0] == "public" and at[1] in installation.INSTALLED_NAMES):
        return "ours"
    if at == original:
        return "" if cutover.turned(snapshot) else "theirs"
    if at == partitioned and cutover.turned(snapshot):
        return "theirs"  # the application's own by now
    if not (at in tables or at == partitioned or at[0] == spec.partition_schema):
        return "theirs"  # a view of the original, a function of its triggers
    models = {original, *([partitioned] if at in tables else [])}
    carried = any(each.signature == lint.signature for each in alike if (each.schema, each.name) in models)
    if carried and (lint.signature or at == partitioned):
        return ""  # an index or a foreign key; but that row security is off is not handed down
    return "ours" if snapshot.registered or at not in tables | {partitioned} else "theirs"


def _told(found: Sequence[Lint]) -> str:
    """Each object once, what it is about in brackets; the first few of many."""
    by: dict[str, list[Lint]] = {}
    for each in found:
        by.setdefault(plainly(each.schema, each.name), []).append(each)
    return listed([f"{at}{_members(own)}" for at, own in by.items()]) + "."


def _members(own: Sequence[Lint]) -> str:
    if own[0].lint.startswith("0006"):
        by_role: dict[str, list[str]] = {}
        for each in own:
            action, _, role = each.signature.partition(" for ")
            by_role.setdefault(role, []).append(f"{action} {each.member}")
        return f" ({'; '.join(f'{role}: {listed(actions)}' for role, actions in by_role.items())})"
    members = [each.member for each in own if each.member]
    return f" ({', '.join(members)})" if members and not own[0].lint.startswith(("0011", "0028", "0029")) else ""
