"""The application in small: every kind of call site that facts about Atlas list, run as PostgREST runs them, with results that can be compared.

Each request is a transaction of `authenticator`, who becomes the role of its JWT; its claims are set for the transaction. What the server made
up (ids, now()) is named by the order of its appearance or left out, so that two runs on the same rows give the same results.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import sql
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.conninfo import make_conninfo

TABLES = (
    "auth.users", "public.profiles", "public.conversations", "public.messages", "public.usage_logs", "public.message_reactions",
    "public.content_reports",
)  # fmt: skip
COLUMNS = (
    "SELECT a.attname FROM pg_attribute a WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped "
    # a composite foreign key's column is the product's own
    "AND coalesce(col_description(a.attrelid, a.attnum), '') NOT LIKE 'atlas_ops%%' ORDER BY a.attname"
)
SET_ASIDE = "partitions.messages_null_keys"
NAMESPACE = uuid.UUID("6d65737361676573" * 2)

Result = Mapping[str, Any]


@dataclass
class Names:
    """What two runs may not agree on gets a name: ids that the server made, and the instants at which it made rows."""

    known: set[Any]
    began: datetime
    made: dict[uuid.UUID, str] = field(default_factory=dict)

    def plain(self, value: Any, *, naming: bool = True) -> Any:
        """The value as JSON that means the same in every run. Without `naming` an id that nobody was told of has no name of its own."""
        match value:
            case uuid.UUID():
                fresh = f"uuid {len(self.made) + 1}"
                named = (
                    self.made.setdefault(value, fresh)
                    if naming and value not in self.known
                    else self.made.get(value, "uuid")
                )
                return str(value) if value in self.known else named
            case datetime():
                return "now" if value not in self.known and value >= self.began else value.astimezone(UTC).isoformat()
            case Decimal():
                return str(value)
            case dict():
                return json.dumps(value, sort_keys=True)
            case list() | tuple():
                return [self.plain(one, naming=naming) for one in value]
            case _:
                return value


class Moment(Loader):
    """A timestamptz, or the word for an infinite one."""

    def load(self, data: Buffer) -> datetime | str:
        written = bytes(data).decode()
        return written if "infinity" in written else datetime.fromisoformat(written)


def client_id(word: str) -> uuid.UUID:
    """An id that the client makes, the same in every run."""
    return uuid.uuid5(NAMESPACE, word)


class Application:
    """Call sites by name; `run` gives what each returned. `number` makes the ids of a later run its own, `names` are those of the first."""

    def __init__(
        self, conninfo: str, *, upsert_on: str = "id", zone: str = "UTC", number: int = 1, names: Names | None = None
    ) -> None:
        self.conninfo, self.upsert_on, self.number = conninfo, upsert_on, number
        settings = f"-c TimeZone={zone}"
        self.owner = psycopg.connect(conninfo, autocommit=True, options=settings)
        self.client = psycopg.connect(make_conninfo(conninfo, user="authenticator"), autocommit=True, options=settings)
        for connection in (self.owner, self.client):
            connection.adapters.register_loader("timestamptz", Moment)
        self.names = names or self._names()
        self.results: list[Result] = []

    def close(self) -> None:
        self.owner.close()
        self.client.close()

    def __enter__(self) -> Application:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- how a request is made

    def ask(self, site: str, query: str, *parameters: Any, role: str = "authenticated", user: Any = None) -> list[Any]:
        """One request; its rows, or the SQLSTATE that it was refused with, go into the results."""
        claims = {"role": role, **({"sub": str(user)} if user else {})}
        rows: list[Any] = []
        try:
            with self.client.transaction():
                self.client.execute("SELECT set_config('role', %s, true), set_config('request.jwt.claims', %s, true)",
                                    (role, json.dumps(claims)))  # fmt: skip
                done = self.client.execute(query, parameters or None)
                rows = done.fetchall() if done.description else []
                outcome: Any = {"rows": self.names.plain(rows), "count": done.rowcount}
        except psycopg.Error as error:
            outcome = {"refused": error.sqlstate}
        self.results.append({"site": site, **outcome})
        return rows

    def one(self, query: str, *parameters: Any) -> Any:
        """What the script itself has to know, as the owner; no result."""
        row = self.owner.execute(query, parameters or None).fetchone()
        assert row is not None
        return row[0] if len(row) == 1 else row

    def _names(self) -> Names:
        """Of a database that no run has touched yet; a later run goes on with the names of the first."""
        known = [value for table in TABLES for row in self._content(table) for value in row]
        return Names(
            {value for value in known if isinstance(value, uuid.UUID | datetime)}, self.one("SELECT clock_timestamp()")
        )

    def id(self, word: str) -> uuid.UUID:
        """A client's id, known to every run."""
        made = client_id(f"{self.number} {word}")
        self.names.known.add(made)
        return made

    def _rows(self, table: str) -> Iterable[Sequence[Any]]:
        columns = [column for (column,) in self.owner.execute(COLUMNS, (table,))]
        listed = sql.SQL(", ").join(map(sql.Identifier, columns))
        return self.owner.execute(sql.SQL("SELECT {} FROM {}").format(listed, sql.Identifier(*table.split("."))))

    def _content(self, table: str) -> list[Sequence[Any]]:
        """Messages that were set aside are messages."""
        return [*self._rows(table), *(self._rows(SET_ASIDE) if table == "public.messages" and self._aside() else ())]

    def _aside(self) -> bool:
        return bool(
            self.one(
                "SELECT to_regclass(%s) IS NOT NULL AND relkind = 'p' FROM pg_class WHERE oid = 'public.messages'::regclass",
                SET_ASIDE,
            )
        )

    # -- what is compared

    def contents(self) -> dict[str, str]:
        """Rows and digest of every table of the application."""
        found = {}
        for table in TABLES:
            rows = self._content(table)
            lines = sorted(
                json.dumps(self.names.plain(row, naming=False), sort_keys=True, ensure_ascii=False) for row in rows
            )
            found[table] = f"{len(lines)} {hashlib.sha256(chr(10).join(lines).encode()).hexdigest()[:16]}"
        return found

    # -- the story

    def run(self) -> list[Result]:
        """Every call site, in an order in which an application would come to them."""
        self.people()
        self.reads()
        for site in (
            self.inserts,
            self.upserts,
            self.edits,
            self.branches,
            self.soft_deletes,
            self.reactions_and_reports,
            self.usage,
            self.service,
        ):
            site()
        self.reads(" after all that")
        for site in (self.hard_deletes, self.strangers, self.refused):
            site()
        return self.results

    def people(self) -> None:
        """Two users with many messages and a conversation each in which no message lacks its time: such a one is set aside."""
        keyless = SET_ASIDE if self._aside() else "messages"
        busy = (
            "SELECT c.user_id, c.id FROM conversations c JOIN messages m ON m.conversation_id = c.id WHERE c.deleted_at IS NULL "
            f"AND NOT EXISTS (SELECT FROM {keyless} n LEFT JOIN conversations d ON d.id = n.conversation_id "
            "WHERE n.created_at IS NULL AND (d.user_id = c.user_id OR n.user_id = c.user_id)) "
            "GROUP BY 1, 2 HAVING count(m.user_id) > 1 ORDER BY count(*) DESC, c.id"
        )
        chosen: dict[Any, Any] = {}
        for user, conversation in self.owner.execute(busy):
            chosen.setdefault(user, conversation)
        people = list(chosen.items())[3 * (self.number - 1) : 3 * self.number]
        (self.user, self.conversation), (self.other, self.others), (self.leaver, _) = people
        self.message, self.at = self.one(
            "SELECT id, created_at FROM messages WHERE conversation_id = %s AND user_id = %s ORDER BY created_at LIMIT 1",
            self.conversation, self.user,
        )  # fmt: skip

    def reads(self, word: str = "") -> None:
        """Every query of the list, as the user and as the service role, that row security does not bind."""
        conversations = [
            row[0]
            for row in self.owner.execute(
                "SELECT id FROM conversations WHERE user_id = %s ORDER BY id LIMIT 20", (self.user,)
            )
        ]
        for role in ("authenticated", "service_role"):
            as_role = {"role": role, "user": self.user}

            def ask(site: str, query: str, *parameters: Any, as_role: Any = as_role) -> None:
                self.ask(f"{site}{word} as {as_role['role']}", query, *parameters, **as_role)

            ask(
                "history page",
                "SELECT id, role, content, created_at FROM messages WHERE conversation_id = %s ORDER BY created_at DESC LIMIT 50",
                self.conversation,
            )
            ask(
                "first page",
                "SELECT * FROM active_messages WHERE conversation_id = %s ORDER BY created_at LIMIT 50",
                self.conversation,
            )
            ask("model context", "SELECT role, content, created_at FROM messages WHERE conversation_id = %s AND deleted_at IS NULL "
                "ORDER BY created_at DESC LIMIT 10", self.conversation)  # fmt: skip
            ask("monthly count", "SELECT count(*) FROM messages WHERE user_id = %s AND role = 'user' AND created_at >= %s", self.user,
                datetime(2026, 10, 1, tzinfo=UTC))  # fmt: skip
            ask("delta sync", "SELECT content FROM messages WHERE conversation_id = ANY(%s) AND created_at > %s ORDER BY "
            "created_at, content LIMIT 20",
                conversations, self.at)  # fmt: skip
            ask(
                "pull",
                "SELECT content, created_at FROM messages WHERE user_id = %s ORDER BY created_at DESC, content LIMIT 500",
                self.user,
            )
            ask("one message", "SELECT id, role, content, metadata, attachments, created_at FROM messages WHERE id = %s AND conversation_id = %s",
                self.message, self.conversation)  # fmt: skip
            ask("one message by id", "SELECT id, deleted_at, deleted_by FROM messages WHERE id = %s", self.message)
            ask("search", "SELECT m.content, c.title FROM messages m JOIN conversations c ON c.id = m.conversation_id WHERE m.user_id = %s "
                "AND m.deleted_at IS NULL AND m.content ILIKE %s ORDER BY m.created_at DESC, m.content, c.title LIMIT "
                "50", self.user, "%week%")  # fmt: skip
            ask(
                "count",
                "SELECT count(*) FROM messages WHERE conversation_id = %s AND user_id = %s",
                self.conversation,
                self.user,
            )
            ask("new since", "SELECT id, content, created_at FROM messages WHERE conversation_id = %s AND created_at > %s ORDER BY created_at",
                self.conversation, self.at)  # fmt: skip
            ask("embedded", "SELECT c.id, c.title, (SELECT json_agg(json_build_object('content', m.content) ORDER BY m.created_at, m.content) "
                "FROM messages m WHERE m.conversation_id = c.id) FROM conversations c WHERE c.id = ANY(%s) ORDER BY c.id", conversations)  # fmt: skip
            ask("reactions of a page", "SELECT r.emoji, r.message_id, m.role FROM message_reactions r JOIN messages m ON m.id = r.message_id "
                "WHERE m.conversation_id = %s ORDER BY r.created_at, r.id", self.conversation)  # fmt: skip
            ask("cooldown", "SELECT count(*) FROM usage_logs WHERE user_id = %s AND event = 'chat_message' AND \"timestamp\" >= %s", self.user,
                datetime(2026, 9, 30, 20, tzinfo=UTC))  # fmt: skip
            ask("today", "SELECT id, event, data, tokens_used, estimated_cost FROM usage_logs WHERE user_id = %s AND event = 'chat_message' AND "
                "\"timestamp\" >= %s AND \"timestamp\" < %s ORDER BY "
                "id", self.user, datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))  # fmt: skip
            ask(
                "months",
                "SELECT date_trunc('month', created_at, 'UTC'), role, count(*) FROM messages WHERE user_id = %s GROUP BY 1, 2 ORDER BY 1, 2",
                self.user,
            )
        self.ask(f"everything{word} as anon", "SELECT count(*) FROM messages", role="anon")
        self.ask(f"log{word} as anon", "SELECT count(*) FROM usage_logs", role="anon")
        self.ask(
            f"everybody's{word}",
            "SELECT count(*), count(deleted_at) FROM messages WHERE created_at IS NOT NULL",
            user=self.user,
        )

    def inserts(self) -> None:
        """One row, several, with defaults and without, by each role; the trigger sets the conversation's updated_at."""

        def touched(site: str) -> None:
            self.ask(
                f"{site}: the conversation is touched",
                "SELECT updated_at FROM conversations WHERE id = %s",
                self.conversation,
                user=self.user,
            )

        touched("before")
        columns = "INSERT INTO messages (id, conversation_id, user_id, role, content{}) VALUES "
        self.ask(
            "send",
            columns.format("") + "(%s, %s, %s, 'user', 'hello') RETURNING *",
            self.id("sent"),
            self.conversation,
            self.user,
            user=self.user,
        )
        touched("send")
        self.ask("send by PostgREST", "WITH payload AS (SELECT %s::json AS body), written AS (INSERT INTO public.messages (conversation_id, user_id, "
                 "role, content) SELECT conversation_id, user_id, role, content FROM payload, json_to_recordset(body) AS r (conversation_id uuid, "
                 "user_id uuid, role text, content text) RETURNING messages.*) SELECT coalesce(json_agg(written.role), '[]') FROM written",
                 json.dumps([{"conversation_id": str(self.conversation), "user_id": str(self.user), "role": "user", "content": "array"}]),
                 user=self.user)  # fmt: skip
        self.ask("answer", columns.format(", metadata") + "(%s, %s, NULL, 'assistant', 'hello yourself', '{\"model\": "
        "\"atlas-1\"}') RETURNING id, created_at",
                 self.id("answered"), self.conversation, user=self.user)  # fmt: skip
        self.ask("both at once", columns.format(", created_at") + "(%s, %s, %s, 'user', 'one', %s), (%s, %s, NULL, "
        "'assistant', 'two', %s) RETURNING id",
                 self.id("pair 1"), self.conversation, self.user, datetime(2026, 11, 1, tzinfo=UTC),
                 self.id("pair 2"), self.conversation, datetime(2026, 10, 31, 23, 59, 59, 999999, tzinfo=UTC), user=self.user)  # fmt: skip
        # sent by clients whose clocks stand elsewhere: in the hour that a change of clocks repeats or skips, at a bound by local time, out of range
        for number, moment in enumerate((
            "2026-03-08 01:59:59.999999-05", "2026-03-08 03:00:00-04", "2026-11-01 01:30:00-04", "2026-11-01 01:30:00-05", "2026-11-01 00:00:00+02",
            "2026-10-31 20:00:00-04", "1999-12-31 23:59:59+00", "2031-01-01 00:00:00+00",
        )):  # fmt: skip
            self.ask(f"sent at {moment}", columns.format(", created_at") + "(%s, %s, %s, 'user', 'clock', %s) RETURNING id, created_at",
                     self.id(f"clock {number}"), self.conversation, self.user, moment, user=self.user)  # fmt: skip
        self.ask(
            "without a conversation",
            "INSERT INTO messages (user_id, role, content) VALUES (%s, 'user', 'lost') RETURNING id",
            self.user,
            user=self.user,
        )
        self.ask(
            "by default",
            "INSERT INTO messages (role, content) VALUES ('system', 'x') RETURNING attachments, metadata",
            role="service_role",
        )
        touched("after")

    def upserts(self) -> None:
        """The three call sites: a new row, one that is there, several of both. Their conflict target is what the application has to change."""
        upsert = ("INSERT INTO messages (id, conversation_id, user_id, role, content, created_at) VALUES {} ON CONFLICT ({}) DO UPDATE SET "
                  "content = excluded.content, edited_at = now() RETURNING id, content, edited_at")  # fmt: skip
        row = "(%s, %s, %s, 'user', %s, %s)"

        def values(word: str, content: str, at: str) -> tuple[Any, ...]:
            return self.id(word), self.conversation, self.user, content, datetime.fromisoformat(at)

        first, later = (
            values("upsert 1", "first", "2026-05-31T23:59:59.999999+00:00"),
            values("upsert 2", "later", "2026-06-01T00:00:00+00:00"),
        )
        self.ask("upsert of a new row", upsert.format(row, self.upsert_on), *first, user=self.user)
        self.ask(
            "upsert of one that is there",
            upsert.format(row, self.upsert_on),
            *first[:3],
            "first again",
            first[4],
            user=self.user,
        )
        self.ask(
            "upsert of both",
            upsert.format(f"{row}, {row}", self.upsert_on),
            *first[:3],
            "and again",
            first[4],
            *later,
            user=self.user,
        )
        self.ask(
            "upsert of another's",
            upsert.format(row, self.upsert_on),
            self.message,
            self.conversation,
            self.user,
            "mine",
            self.at,
            user=self.other,
        )
        self.ask("insert unless there", "INSERT INTO messages (id, conversation_id, user_id, role, content, created_at) "
        "VALUES (%s, %s, %s, 'user', %s, %s) "
                 "ON CONFLICT DO NOTHING RETURNING id", *later, user=self.user)  # fmt: skip

    def edits(self) -> None:
        """By id alone, with the conversation, of another's message, of the key itself."""
        self.ask(
            "edit",
            "UPDATE messages SET content = 'edited', edited_at = now() WHERE id = %s RETURNING content",
            self.message,
            user=self.user,
        )
        self.ask("edit in its conversation", "UPDATE messages SET metadata = '{\"edited\": true}' WHERE id = %s AND "
        "conversation_id = %s RETURNING metadata",
                 self.message, self.conversation, user=self.user)  # fmt: skip
        self.ask(
            "edit another's",
            "UPDATE messages SET content = 'stolen' WHERE id = %s RETURNING id",
            self.message,
            user=self.other,
        )
        self.ask(
            "edit as the service",
            "UPDATE messages SET image_url = 'x' WHERE id = %s RETURNING image_url",
            self.message,
            role="service_role",
        )
        self.ask("edit as anon", "UPDATE messages SET content = 'x' WHERE id = %s", self.message, role="anon")
        self.ask("correct its time within the month", "UPDATE messages SET created_at = created_at + interval '1 second' "
        "WHERE id = %s RETURNING created_at",
                 self.id("pair 1"), user=self.user)  # fmt: skip
        self.ask("correct its time to another month", "UPDATE messages SET created_at = '2026-09-30 23:59:59.999999+00' "
        "WHERE id = %s RETURNING id, created_at",
                 self.id("pair 1"), user=self.user)  # fmt: skip
        self.ask(
            "move it out of range",
            "UPDATE messages SET created_at = '2032-01-01 00:00:00+00' WHERE id = %s RETURNING id",
            self.id("pair 2"),
            user=self.user,
        )

    def branches(self) -> None:
        """An edit makes a branch: a conversation with the messages up to there; regenerating an answer deletes what came after it."""
        branch = self.id("branch")
        self.ask(
            "branch",
            "INSERT INTO conversations (id, user_id, title) VALUES (%s, %s, 'branch') RETURNING id",
            branch,
            self.user,
            user=self.user,
        )
        self.ask("branch: its messages", "INSERT INTO messages (conversation_id, user_id, role, content, created_at, "
        "metadata) SELECT %s, user_id, role, "
                 "content, created_at, jsonb_build_object('branched_from', id) FROM messages WHERE conversation_id = %s AND created_at <= %s "
                 "ORDER BY created_at RETURNING content, created_at", branch, self.conversation, self.at, user=self.user)  # fmt: skip
        self.ask(
            "branch: a page of it",
            "SELECT content, created_at, metadata FROM messages WHERE conversation_id = %s ORDER BY created_at",
            branch,
            user=self.user,
        )
        self.ask("regenerate", "DELETE FROM messages WHERE conversation_id = %s AND created_at > %s RETURNING content", branch,
                 datetime(2024, 6, 1, tzinfo=UTC), user=self.user)  # fmt: skip

    def soft_deletes(self) -> None:
        """For oneself, for everyone, undone, and of a whole conversation by the function that names the table."""
        self.ask("soft delete", "UPDATE messages SET deleted_at = now(), deleted_by = 'user' WHERE id = %s AND "
        "conversation_id = %s RETURNING deleted_by",
                 self.message, self.conversation, user=self.user)  # fmt: skip
        self.ask(
            "soft delete: the view",
            "SELECT count(*) FROM active_messages WHERE conversation_id = %s",
            self.conversation,
            user=self.user,
        )
        self.ask(
            "undo",
            "UPDATE messages SET deleted_at = NULL, deleted_by = NULL WHERE id = %s RETURNING deleted_at",
            self.message,
            user=self.user,
        )
        self.ask(
            "for everyone",
            "UPDATE messages SET deleted_at = now(), deleted_by = 'everyone' WHERE id = %s RETURNING deleted_by",
            self.id("sent"),
            user=self.user,
        )
        self.ask("by RPC, another's", "SELECT delete_conversation_soft(%s, %s)", self.user, self.others, user=self.user)
        self.ask("by RPC", "SELECT delete_conversation_soft(%s, %s)", self.other, self.others, user=self.other)
        self.ask("by RPC: what is left", "SELECT count(*), count(deleted_at), count(deleted_by) FROM messages WHERE "
        "conversation_id = %s", self.others,
                 role="service_role")  # fmt: skip

    def reactions_and_reports(self) -> None:
        """They refer to messages: to one that is there, to one sent just now, to none."""
        react = "INSERT INTO message_reactions (message_id, user_id, emoji) VALUES (%s, %s, %s) RETURNING message_id, emoji, created_at"
        self.ask("react", react, self.message, self.user, "👍", user=self.user)
        self.ask("react to a new one", react, self.id("sent"), self.user, "🙏", user=self.user)
        self.ask("react to none", react, self.id("nowhere"), self.user, "😂", user=self.user)
        self.ask("react as another", react, self.message, self.other, "😂", user=self.user)
        self.ask("report", "INSERT INTO content_reports (reporter_id, reported_message_id, report_reason) VALUES (%s, %s, 'spam')", self.user,
                 self.message, user=self.user)  # fmt: skip
        self.ask("report none", "INSERT INTO content_reports (reporter_id, reported_message_id, report_reason) VALUES (%s, %s, 'spam')", self.user,
                 self.id("nowhere"), user=self.user)  # fmt: skip
        self.ask(
            "report in general",
            "INSERT INTO content_reports (reporter_id, report_reason) VALUES (%s, 'spam')",
            self.user,
            user=self.user,
        )
        self.ask("reports", "SELECT r.report_reason, r.status, m.content FROM content_reports r LEFT JOIN messages m ON m.id = r.reported_message_id "
                 "WHERE r.reporter_id = %s ORDER BY r.created_at, r.id", self.user, role="service_role")  # fmt: skip
        self.ask(
            "review",
            "UPDATE content_reports SET status = 'reviewed' WHERE reported_message_id = %s RETURNING status",
            self.message,
            role="service_role",
        )
        self.ask(
            "take back",
            "DELETE FROM message_reactions WHERE message_id = %s AND user_id = %s RETURNING emoji",
            self.id("sent"),
            self.user,
            user=self.user,
        )

    def usage(self) -> None:
        """Numbers come from the sequence; the key has its default, or the client's own."""
        log = 'INSERT INTO usage_logs (user_id, event, data{}) VALUES (%s, %s, %s{}) RETURNING id, event, "timestamp", created_at, tokens_used'
        self.ask("log", log.format("", ""), self.user, "chat_message", json.dumps({"ok": True}), user=self.user)
        self.ask("log of another", log.format("", ""), self.other, "chat_message", "{}", user=self.user)
        self.ask("log as the service", log.format(', tier, feature, tokens_used, estimated_cost, "timestamp"', ", 'core', "
        "'chat', 12, 0.0042, '2026-11-01 00:00+00'"),
                 self.user, "insight", "{}", role="service_role")  # fmt: skip
        self.ask("log as anon", log.format("", ""), None, "login", "{}", role="anon")
        self.ask("log a wrong tier", log.format(", tier", ", 'gold'"), self.user, "login", "{}", role="service_role")
        self.ask(
            "log without a time", log.format(', "timestamp"', ", NULL"), self.user, "login", "{}", role="service_role"
        )
        self.ask("amend the log", "UPDATE usage_logs SET tokens_used = 77 WHERE id = (SELECT max(id) FROM usage_logs WHERE "
        "user_id = %s) RETURNING id, tokens_used",
                 self.user, role="service_role")  # fmt: skip
        self.ask(
            "costs",
            "SELECT tier, sum(estimated_cost), sum(tokens_used), count(*) FROM usage_logs GROUP BY 1 ORDER BY 1",
            role="service_role",
        )
        self.ask(
            "forget",
            "DELETE FROM usage_logs WHERE user_id = %s AND event = 'login' RETURNING id",
            self.other,
            role="service_role",
        )

    def service(self) -> None:
        """What the back end does: a bulk edit, a purge by time, a join that writes, a lock on a row."""
        self.ask("tag", "UPDATE messages SET message_type = 'text' WHERE message_type IS NULL AND created_at >= "
        "'2025-01-01+00' AND created_at < '2025-02-01+00'",
                 role="service_role")  # fmt: skip
        self.ask(
            "purge",
            "DELETE FROM messages WHERE deleted_at < '2025-06-01+00' AND created_at IS NOT NULL",
            role="service_role",
        )
        self.ask("from a join", "UPDATE messages m SET metadata = jsonb_build_object('title', c.title) FROM conversations c "
        "WHERE c.id = m.conversation_id AND "
                 "c.id = %s AND m.role = 'system'", self.conversation, role="service_role")  # fmt: skip
        self.ask("lock", "SELECT id, content FROM messages WHERE id = %s FOR UPDATE", self.message, role="service_role")
        self.ask("merge", "MERGE INTO messages m USING (SELECT %s::uuid AS id) s ON m.id = s.id WHEN MATCHED THEN UPDATE SET content = 'merged' "
                 "WHEN NOT MATCHED THEN DO NOTHING", self.message, role="service_role")  # fmt: skip

    def hard_deletes(self) -> None:
        """One message, a conversation, a whole user: what refers to them goes with them."""

        def counted(site: str) -> None:
            self.ask(f"{site}: what is left", "SELECT (SELECT count(*) FROM messages WHERE created_at IS NOT NULL), (SELECT "
            "count(*) FROM message_reactions), "
                     "(SELECT count(*) FROM content_reports), (SELECT count(*) FROM usage_logs), (SELECT count(*) FROM "
                     "conversations)", role="service_role")  # fmt: skip

        counted("before")
        self.ask(
            "delete a message", "DELETE FROM messages WHERE id = %s RETURNING content", self.message, user=self.user
        )
        counted("a message")
        self.ask(
            "delete another's", "DELETE FROM messages WHERE conversation_id = %s", self.conversation, user=self.other
        )
        self.ask(
            "delete a conversation",
            "DELETE FROM conversations WHERE id = %s RETURNING id",
            self.conversation,
            user=self.user,
        )
        counted("a conversation")
        self.owner.execute("GRANT SELECT, DELETE ON auth.users TO service_role")
        self.ask("delete an account", "DELETE FROM auth.users WHERE id = %s", self.leaver, role="service_role")
        counted("an account")

    def strangers(self) -> None:
        """What row security keeps apart stays apart."""
        self.ask("another's page", "SELECT id FROM messages WHERE conversation_id = %s", self.others, user=self.user)
        self.ask(
            "into another's",
            "INSERT INTO messages (conversation_id, user_id, role, content) VALUES (%s, %s, 'assistant', 'x')",
            self.others,
            self.other,
            user=self.user,
        )
        self.ask(
            "as anon",
            "INSERT INTO messages (conversation_id, role, content) VALUES (%s, 'user', 'x')",
            self.others,
            role="anon",
        )
        self.ask("delete as anon", "DELETE FROM messages", role="anon")

    def refused(self) -> None:
        """What was refused is refused, with the same SQLSTATE."""
        self.ask(
            "a role there is none", "INSERT INTO messages (role, content) VALUES ('robot', 'x')", role="service_role"
        )
        self.ask("without content", "INSERT INTO messages (role) VALUES ('user')", role="service_role")
        self.ask("an id that is taken", "INSERT INTO messages (id, role, content, created_at) SELECT id, role, content, created_at FROM messages "
                 "WHERE created_at IS NOT NULL ORDER BY id LIMIT 1", role="service_role")  # fmt: skip
        self.ask(
            "a conversation there is none",
            "INSERT INTO messages (conversation_id, role, content) VALUES (%s, 'user', 'x')",
            self.id("nowhere"),
            role="service_role",
        )
        self.ask(
            "deleted by nobody",
            "UPDATE messages SET deleted_by = 'nobody' WHERE created_at >= '2026-10-01+00'",
            role="service_role",
        )


def played(conninfo: str, **options: Any) -> tuple[list[Result], dict[str, str], Names]:
    """The whole script once: its results, the tables it leaves, and its names."""
    with Application(conninfo, **options) as application:
        return application.run(), application.contents(), application.names
