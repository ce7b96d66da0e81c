"""A proxy on a unix socket that loses the reply to a COMMIT: what was committed is then known to the server alone."""

from __future__ import annotations

import re
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

COMMIT = re.compile(rb"\bcommit\b", re.IGNORECASE)


@dataclass
class _Pair:
    """One client and its server."""

    client: socket.socket
    server: socket.socket
    swallow: threading.Event = field(default_factory=threading.Event)

    def end(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Proxy:
    """Passes everything on, until `lose` arms it.

    `folder` must be empty and as short as a socket's name has to be; `conninfo` is that of a server on a unix socket.
    """

    def __init__(self, folder: Path, conninfo: str) -> None:
        place = conninfo_to_dict(conninfo)
        self._server = f"{place['host']}/.s.PGSQL.{place.get('port') or 5432}"
        self.conninfo = make_conninfo(conninfo, host=str(folder), hostaddr="", port=5432)
        self.lost = threading.Event()
        self.commits = 0  # seen so far
        self._mutex, self._left, self._reaches, self._statement = threading.Lock(), 0, True, COMMIT
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen()
        threading.Thread(target=self._serve, name="proof proxy", daemon=True).start()

    def lose(self, number: int = 1, *, reaches: bool = True, statement: re.Pattern[bytes] = COMMIT) -> None:
        """End the connection at the `number`th COMMIT from now on: once the server has done it, or before it hears of it."""
        with self._mutex:
            self._left, self._reaches, self._statement = number, reaches, statement
            self.lost.clear()

    def disarm(self) -> None:
        with self._mutex:
            self._left = 0

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(self._server)
                except OSError:  # the server is being killed: so is this client's connection
                    client.close()
                    server.close()
                    continue
                pair = _Pair(client, server)
                for work in (self._ask, self._answer):
                    threading.Thread(target=work, args=(pair,), name="proof proxy", daemon=True).start()

    def _its_turn(self, query: bytes) -> bool:
        with self._mutex:
            self.commits += bool(COMMIT.search(query))
            if self._left == 0 or not self._statement.search(query):
                return False
            self._left -= 1
            return self._left == 0

    def _ask(self, pair: _Pair) -> None:
        """From the client: the start-up message, which has no type, then messages of type, length and body."""
        with suppress(OSError, struct.error), pair.client.makefile("rb") as messages:
            head = messages.read(4)
            pair.server.sendall(head + messages.read(struct.unpack("!i", head)[0] - 4))
            while kind := messages.read(1):
                head = messages.read(4)
                body = messages.read(struct.unpack("!i", head)[0] - 4)
                if kind in b"QP" and self._its_turn(body):
                    if not self._reaches:
                        self.lost.set()
                        break
                    pair.swallow.set()
                pair.server.sendall(kind + head + body)
        pair.end()

    def _answer(self, pair: _Pair) -> None:
        with suppress(OSError, struct.error), pair.server.makefile("rb") as messages:
            while kind := messages.read(1):
                head = messages.read(4)
                body = messages.read(struct.unpack("!i", head)[0] - 4)
                if not pair.swallow.is_set():
                    pair.client.sendall(kind + head + body)
                elif kind == b"Z":  # ReadyForQuery: it is done
                    self.lost.set()
                    break
        pair.end()
        for end in (pair.client, pair.server):
            end.close()
