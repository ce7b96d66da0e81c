"""The vocabulary: what the catalogs say of a server, a table and what hangs on it, as frozen values.

Each class below is one row of one file in `sql/catalog/`, field by field in the same order; `catalog` makes them, everything
that decides reads them. Nothing here imports anything of the package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Server:
    """Who we are and where: one row of `sql/catalog/server.sql`."""

    version: int  # server_version_num, such as 180004
    version_text: str
    system_identifier: str
    database: str
    role: str
    superuser: bool
    bypasses_row_security: bool
    may_create_schema: bool
    may_create_in_public: bool
    time_zone: str
    in_recovery: bool
    read_only: bool
    wal_level: str
    max_locks: int  # max_locks_per_transaction * (max_connections + max_prepared_transactions)
    has_pg_stat_statements: bool
    now: datetime
    sees_activity: bool = True  # pg_stat_activity shows it what other roles do


@dataclass(frozen=True, slots=True)
class Table:
    """A row of pg_class, with sizes in bytes; `sql/catalog/table.sql`."""

    oid: int
    schema: str
    name: str
    kind: str  # relkind: r a table, p a partitioned table
    persistence: str  # relpersistence: p permanent, u unlogged, t temporary
    is_partition: bool
    owner: str
    may_own: bool  # the current role is a member of the owner
    may_select: bool
    row_security: bool
    force_row_security: bool
    replica_identity: str  # d default, n nothing, f full, i index
    storage_parameters: tuple[str, ...]
    tablespace: str | None
    comment: str | None
    estimated_rows: int  # reltuples; -1: never analyzed
    heap_bytes: int
    index_bytes: int
    toast_bytes: int
    partition_key: str | None  # pg_get_partkeydef
    has_children: bool
    closed: bool = False  # a guard of ours lets nobody but its owner write it

    @property
    def bytes(self) -> int:
        """Heap, indexes and TOAST."""
        return self.heap_bytes + self.index_bytes + self.toast_bytes


@dataclass(frozen=True, slots=True)
class Column:
    """A live column; `sql/catalog/columns.sql`."""

    name: str
    type: str
    base_type: str  # typname below any domain
    type_kind: str  # typtype: b base, d domain, e enum, c composite, r range
    not_null: bool
    default: str | None
    identity: str  # '' none, a always, d by default
    generated: str  # '' none, s stored, v virtual
    comment: str | None
    sequence: str | None  # the sequence that the column owns, qualified and quoted
    default_sequence: str | None  # the sequence its default calls, whoever owns it
    identity_options: str = ""  # of an identity's sequence, as ADD GENERATED takes them
    statistics_target: int | None = None
    options: tuple[str, ...] = ()  # as SET (...) takes them
    correlation: float | None = field(
        default=None, compare=False
    )  # of its values with the order of the rows; None: never analyzed


@dataclass(frozen=True, slots=True)
class Constraint:
    """A constraint without its index; `sql/catalog/constraints.sql`."""

    name: str
    kind: str  # contype: p primary key, u unique, x exclusion, f foreign key, c check, n not null
    definition: str  # pg_get_constraintdef
    columns: tuple[str, ...]
    validated: bool
    deferrable: bool
    referenced: str | None  # the table a foreign key refers to, qualified and quoted
    may_reference: bool  # the current role may make a foreign key to that table


@dataclass(frozen=True, slots=True)
class Index:
    """An index; `tail` is what follows the table's name in its definition, from USING on; `sql/catalog/indexes.sql`."""

    name: str
    tail: str
    columns: tuple[str, ...]  # key columns; 'expr' for an expression, as PostgreSQL names it
    unique: bool
    primary: bool
    valid: bool
    replica_identity: bool
    clustered: bool
    constraint: str | None
    tablespace: str | None
    column_settings: tuple[str, ...]  # of its expressions, as ALTER INDEX ... ALTER COLUMN takes them
    bytes: int
    scans: int


@dataclass(frozen=True, slots=True)
class OwnType:
    """A type of the database's own that a table's columns rest on, and the SQL that makes it; `sql/catalog/own_types.sql`."""

    name: str
    definition: str


@dataclass(frozen=True, slots=True)
class View:
    """A view of ours; `sql/catalog/united.sql`."""

    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class Statistics:
    """Extended statistics; `sql/catalog/statistics.sql`."""

    name: str
    kinds: tuple[str, ...]  # empty: those of an expression alone
    columns: str  # what follows ON, as PostgreSQL prints it
    target: int | None
    owner: str
    comment: str | None


@dataclass(frozen=True, slots=True)
class Trigger:
    """A user's trigger: CREATE TRIGGER name `head` ON table `tail`; `sql/catalog/triggers.sql`."""

    name: str
    head: str
    tail: str
    enabled: str  # tgenabled: O origin, D disabled, R replica, A always
    row_level: bool
    timing: str
    transition_tables: bool
    constraint: bool


@dataclass(frozen=True, slots=True)
class Policy:
    """A row security policy; `sql/catalog/policies.sql`."""

    name: str
    command: str  # ALL, SELECT, INSERT, UPDATE, DELETE
    permissive: bool
    roles: tuple[str, ...]  # empty: PUBLIC
    using: str | None
    check: str | None


@dataclass(frozen=True, slots=True)
class Grant:
    """One privilege of one role, on the table or on one column; `sql/catalog/grants.sql`."""

    grantee: str | None  # None: PUBLIC
    privilege: str
    grantable: bool
    column: str | None


@dataclass(frozen=True, slots=True)
class Publication:
    """A publication the table is a member of by name; `sql/catalog/publications.sql`."""

    name: str
    may_own: bool
    via_root: bool
    columns: tuple[str, ...]  # empty: every column
    row_filter: str | None
    all_tables: bool

    @property
    def narrowed(self) -> bool:
        """It carries some rows or columns only, which PostgreSQL allows for a partitioned table through the root alone."""
        return bool(self.row_filter or self.columns) and not self.via_root


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key of another table that refers to this one; `sql/catalog/references.sql`.

    `way` is no column of that file: `incoming.before` sets it where a cut-over has re-pointed the foreign key.
    """

    table: str  # qualified and quoted
    constraint: str
    definition: str
    on_delete: str  # confdeltype: a no action, r restrict, c cascade, n set null, d set default
    schema: str
    name: str
    columns: tuple[str, ...]  # of the referring table
    referenced_columns: tuple[str, ...]  # in the same order
    column_comments: tuple[str | None, ...]  # of the referring columns
    referenced_schema: str
    referenced_table: str
    delete_columns: tuple[str, ...]  # of ON DELETE SET NULL (these); empty: all
    on_update: str
    match: str  # confmatchtype: s simple, f full
    deferrable: bool
    deferred: bool
    validated: bool
    enforced: bool  # false only since PostgreSQL 18
    not_null: bool  # every referring column is NOT NULL
    indexed: bool  # a whole index of the referring table begins with them, in any order
    self: bool  # a table that refers to itself
    partitioned: bool  # the referring table is
    owner: str  # of the referring table
    may_own: bool  # the current role is a member of it
    comment: str | None
    all_columns: tuple[str, ...]  # of the referring table
    marked_columns: tuple[str, ...]  # those of them whose comment is ours
    update_triggers: tuple[str, ...]  # user triggers that fire on an UPDATE of any column
    estimated_rows: int
    bytes: int  # heap and TOAST of the referring table
    way: str = ""  # registry or composite; empty: it refers to the table itself, in its own words


@dataclass(frozen=True, slots=True)
class ForeignTime:
    """A foreign key of one column out of the table, and a column of time of the row it refers to; `sql/catalog/foreign_times.sql`."""

    column: str
    schema: str  # of the referenced table
    table: str
    referenced: str  # its column
    time: str | None  # None: it has none
    type: str | None  # of that, as format_type prints it


@dataclass(frozen=True, slots=True)
class Dependent:
    """What binds to the table by OID (view, rule, policy of another table) or names it (function); `sql/catalog/dependents.sql`."""

    kind: str
    name: str
    binds: str  # 'oid' or 'name'
    detail: str | None


@dataclass(frozen=True, slots=True)
class Binding:
    """What stays with the table at a rename, and the SQL that binds it to whichever table then has the name; `sql/catalog/bindings.sql`.

    `kind`: view, materialized view, rule (of another table or a view), own rule, policy (of another table), function, default and column
    (of another table), identity and sequence (that the table owns), temporary (another session's), other (nothing here makes it again).
    """

    kind: str
    schema: str  # of the view, the routine or the sequence, or of the table that the rest is on
    name: str
    member: str  # the rule, policy or column; of a routine its arguments, of a sequence the column it belongs to
    definition: str  # as PostgreSQL prints it; of a policy USING and WITH CHECK
    options: tuple[str, ...]  # as WITH takes them
    owner: str
    may_make: bool  # the current role may make it again
    row_type: bool  # bound to the table's row type: a routine that takes or returns it, a view with a column of it
    rests_on_key: bool  # on the primary key: GROUP BY it alone, or ON CONFLICT ON CONSTRAINT
    dependents: tuple[str, ...]  # where it must be made anew: what would be lost with the old one
    closing: str  # takes the rights on a sequence from everybody who has any
    completion: tuple[str, ...]  # where it is made anew: rights, owner, comment


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment on a constraint, index, trigger or policy of the table; `sql/catalog/comments.sql`."""

    kind: str  # as COMMENT ON takes it
    name: str
    content: str


@dataclass(frozen=True, slots=True)
class Fact:
    """One property of a table or of something that hangs on it, as PostgreSQL prints it: a row of a file in `sql/ledger`."""

    kind: str  # table, column, index, foreign key, trigger, policy, privilege, ...
    name: str  # of the column, index, ...; of the role for a privilege; empty for the table itself
    aspect: str
    value: str


@dataclass(frozen=True, slots=True)
class StatementsView:
    """Where pg_stat_statements is; `sql/catalog/statements_view.sql`."""

    schema: str | None  # None: not in this database
    version: str | None
    available: bool  # its files are on the server
    has_exec_time: bool
    has_info: bool
    reads_all: bool  # the role sees the texts of others
    role: str
    namesakes: tuple[str, ...]  # schemas with another relation of the table's name


@dataclass(frozen=True, slots=True)
class TrackedStatement:
    """A statement of pg_stat_statements beside all those of the database; `sql/template/statements.sql`."""

    statements: int
    hidden: int  # of these, those whose text the role may not see
    too_long: int  # those that name the table, and are too long to be read
    all_ms: float
    since: datetime | None
    query: str | None  # None, as what follows: none names the table
    calls: int | None
    rows: int | None
    total_ms: float | None


@dataclass(frozen=True, slots=True)
class Partition:
    """A table of a partition set, attached or standing beside it; `sql/catalog/partitions.sql`."""

    oid: int
    schema: str
    name: str
    bound: str | None  # pg_get_expr of relpartbound; None: not attached
    detach_pending: bool
    kind: str
    comment: str | None
    owner: str
    row_security: bool
    open_to: tuple[str, ...]  # roles other than the owner that hold any privilege on it
    estimated_rows: int
    live_rows: int
    dead_rows: int
    heap_bytes: int
    index_bytes: int
    toast_bytes: int
    indexes: int
    invalid_indexes: int
    foreign_keys: tuple[str, ...]
    unvalidated: tuple[str, ...]  # foreign keys that are not validated yet
    checks: tuple[str, ...]
    bloat_bytes: int  # estimated from pg_stats; 0 where there are no statistics
    seq_scans: int
    index_scans: int
    last_vacuum: datetime | None
    last_analyze: datetime | None

    @property
    def bytes(self) -> int:
        """Heap, indexes and TOAST."""
        return self.heap_bytes + self.index_bytes + self.toast_bytes


@dataclass(frozen=True, slots=True)
class Attached:
    """A partition that queries read, and its bound; `sql/catalog/attached.sql`."""

    name: str
    bound: str  # pg_get_expr of relpartbound


@dataclass(frozen=True, slots=True)
class SessionZone:
    """A time zone that a session may begin with; `sql/catalog/session_zones.sql`."""

    zone: str


@dataclass(frozen=True, slots=True)
class LeafIndex:
    """A leaf partition and one of its valid indexes, None where it has none; `sql/catalog/leaf_indexes.sql`."""

    leaf: str
    name: str | None
    parent: str | None  # the index of the partitioned table that it is part of
    tail: str | None  # of its definition, from USING on


@dataclass(frozen=True, slots=True)
class Taken:
    """A name that a relation or a type already has; `sql/catalog/names.sql`."""

    schema: str
    name: str
    kind: str
    comment: str | None
    partition_of: str | None
    index_of: str | None = None  # the table, in the same schema


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction that is open for long, or a lock's holder; `sql/catalog/transactions.sql`. No query text: it may hold values."""

    pid: int
    role: str
    application: str
    state: str
    seconds: float
    holds: str | None  # strongest lock on the table, as PostgreSQL prints it


@dataclass(frozen=True, slots=True)
class OnlineCopy:
    """How the copy of a table is kept in step; `sql/catalog/online_copy.sql`."""

    authority: str  # original or partitioned: the table that the application writes
    exchanged: bool  # the partitioned table has the original's name
    in_step: bool  # every row was copied once: what differs is in the key log
    behind_s: float | None  # seconds since the key log was last seen empty; None: never yet
    turned_at: datetime | None  # of the last cut-over or roll-back
    kept: Mapping[str, Any]  # what the way back needs of the original
    captured: bool  # both triggers of the capture are there, and always fire
    log_rows: int  # keys in the log, as counted
    log_bytes: int


@dataclass(frozen=True, slots=True)
class Installed:
    """A database object of ours as the server has it; `sql/catalog/installed.sql`."""

    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class PartitionSchema:
    """The schema the partitions will lie in; `sql/catalog/partition_schema.sql`."""

    exists: bool
    may_create: bool  # in it, or the schema itself where it is not there
    may_own: bool
    open_to: tuple[str, ...]  # application roles with USAGE
    foreign_relations: int  # relations in it that do not carry our mark
    may_create_target: bool  # in the schema of the partitioned table


@dataclass(frozen=True, slots=True)
class RehearsalPlace:
    """Whether a rehearsal can begin; `sql/catalog/rehearsal.sql`."""

    left_over: tuple[str, ...]  # schemas of a rehearsal that was killed
    taken: tuple[str, ...]  # schemas of that name that are not ours
    published_by: tuple[str, ...]  # publications FOR ALL TABLES, which would carry the scratch copy


@dataclass(frozen=True, slots=True)
class Lint:
    """What a lint of Supabase's advisor found; `sql/catalog/lints.sql`."""

    lint: str  # as the advisor calls it
    schema: str
    name: str  # of the table, view or function
    member: (
        str  # constraint, indexes, number of policies; of a function its signature; '' where it is the object itself
    )
    signature: str  # of the finding, without the names of its object: equal on two tables that have the same fault


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What one read of the partition key over the whole table tells; `sql/template/key_facts.sql`."""

    rows: int
    nulls: int
    infinite: int
    lowest: str | None  # text: a date may be BC or infinite
    highest: str | None
    dominant_rows: int  # rows that share the most common value
    sampled_rows: int  # rows among which the most common value was looked for
    unvalued_nulls: int  # NULL keys for which the specification's expression is NULL too


@dataclass(frozen=True, slots=True)
class Relation:
    """A table with everything that hangs on it."""

    table: Table
    columns: tuple[Column, ...]
    constraints: tuple[Constraint, ...] = ()
    indexes: tuple[Index, ...] = ()
    statistics: tuple[Statistics, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    policies: tuple[Policy, ...] = ()
    grants: tuple[Grant, ...] = ()
    publications: tuple[Publication, ...] = ()
    references: tuple[Reference, ...] = ()
    dependents: tuple[Dependent, ...] = ()
    bindings: tuple[Binding, ...] = ()
    comments: tuple[Comment, ...] = ()
    materialized_views: tuple[Relation, ...] = ()  # those among the bindings, each with what hangs on it

    def column(self, name: str) -> Column | None:
        """The column of that name, or None."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def primary_key(self) -> Constraint | None:
        """The primary key constraint, or None."""
        return next((constraint for constraint in self.constraints if constraint.kind == "p"), None)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What `catalog.snapshot` read for one table specification, in one read-only transaction."""

    server: Server
    original: Relation | None
    partitioned: Relation | None
    partitions: tuple[Partition, ...] = ()  # attached ones and ours that are not attached yet
    partition_schema: PartitionSchema | None = None
    taken: tuple[Taken, ...] = ()  # relations whose names the specification needs
    closed_to: tuple[str, ...] = ()  # application roles, to be kept out of the schema of the partitions
    installed: tuple[Installed, ...] = ()
    transactions: tuple[Transaction, ...] = ()
    registered: bool = False  # the partitioned table is one of ours, whole or half done
    online: OnlineCopy | None = None  # its copy is, or was, kept in step
    ready: bool = False  # its rows are all copied: create_future_partitions() takes care of it
    aside: Mapping[str, int] = field(default_factory=dict)  # rows that refer to rows set aside: `incoming.of_aside`
    cared_for: bool = False  # whoever made the set, create_future_partitions() takes care of it
    keeps_keys: bool = False  # a registry of its keys stands in for it: foreign keys of other tables refer to that
