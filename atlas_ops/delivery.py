"""Hands an announcement on: a file for node_exporter's textfile collector, a webhook. Both whole or not at all.

The address of a webhook is a secret: whoever has it can write into the channel. It comes from the environment alone and stands in no message, log,
record or error.
"""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import tenacity
from prometheus_client import write_to_textfile

from atlas_ops import metrics
from atlas_ops.errors import AtlasError
from atlas_ops.metrics import Exposition
from atlas_ops.record import WEBHOOK

TIMEOUT_S = 10.0
TRIES = 5
FIRST_WAIT_S = 0.5  # between two tries, doubled each time
LONGEST_WAIT_S = 30.0  # also of what the receiver asks for by Retry-After
REMIND_AFTER = timedelta(hours=24)
_TOO_MANY, _SERVER_ERROR = 429, 500


def textfile(path: Path, exposition: Exposition) -> None:
    """Write the metrics beside `path` and rename: a collector reads the old file or the new one. Raises AtlasError."""
    if path.suffix != ".prom":
        raise AtlasError(
            what=f"{path} would not be read.",
            why="node_exporter's textfile collector reads files that end in .prom, and passes over all others.",
            next=f"Write {path.with_suffix('.prom')}",
        )
    try:
        write_to_textfile(str(path), metrics.registry(exposition))
    except OSError as error:
        raise AtlasError(
            what=f"{path} cannot be written.",
            why=f"{error.strerror}.",
            next="Name a folder that is there and that this user may write to: the one of --collector.textfile.directory.",
        ) from None


class _Again(Exception):
    """The receiver may take it later. Holds no address."""

    def __init__(self, said: str, after_s: float = 0.0) -> None:
        super().__init__(said)
        self.after_s = after_s


def post(
    body: Mapping[str, Any], environment: Mapping[str, str] = os.environ, *, first_wait_s: float = FIRST_WAIT_S
) -> None:
    """Post a message to the webhook; what may pass (no answer, 429, 5xx) is tried again, with longer and longer pauses.

    Raises AtlasError where there is no address, or the message was not taken; never with the address in it.
    """
    request = _request(body, environment.get(WEBHOOK, ""))
    pause = tenacity.wait_exponential(multiplier=first_wait_s, max=LONGEST_WAIT_S) + tenacity.wait_random(
        0, first_wait_s
    )

    def wait(state: tenacity.RetryCallState) -> float:
        failed = state.outcome.exception() if state.outcome else None
        asked = failed.after_s if isinstance(failed, _Again) else 0.0
        return max(min(asked, LONGEST_WAIT_S), pause(state))

    tries = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_Again), stop=tenacity.stop_after_attempt(TRIES), wait=wait, reraise=True
    )
    try:
        tries(_send, request)
    except _Again as last:
        raise _refused(f"{last} It was tried {TRIES} times.") from None


def _request(body: Mapping[str, Any], address: str) -> urllib.request.Request:
    if not address:
        raise AtlasError(
            what="There is no webhook to tell.",
            why=f"The environment variable {WEBHOOK} is not set; an address is taken from nowhere else, because it is a secret.",
            next=f"Set {WEBHOOK} where the check runs, for instance in an EnvironmentFile of mode 0600.",
        )
    try:
        if urllib.parse.urlsplit(address).scheme not in ("http", "https"):
            raise _refused("Its address is no http or https address.")
        data = json.dumps(body).encode()
        return urllib.request.Request(address, data, {"Content-Type": "application/json"})  # noqa: S310 - checked above
    except ValueError:
        raise _refused("Its address cannot be read.") from None


def _send(request: urllib.request.Request) -> None:
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):  # noqa: S310
            return
    except urllib.error.HTTPError as error:
        error.close()
        said = f"It answered HTTP {error.code}."
        if error.code == _TOO_MANY or error.code >= _SERVER_ERROR:
            raise _Again(said, _seconds(error.headers.get("Retry-After"))) from None
        raise _refused(said) from None
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, http.client.InvalidURL):
            raise _refused("Its address cannot be read.") from None
        reason = getattr(error, "reason", error)
        raise _Again(f"It could not be reached: {type(reason).__name__}.") from None
    except ValueError:
        raise _refused("Its address cannot be read.") from None


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after and retry_after.isdecimal() else 0.0


def _refused(why: str) -> AtlasError:
    return AtlasError(
        what="The webhook did not take the message.",
        why=why,
        next=f"Check the address in {WEBHOOK}, and whether the receiver is up.",
    )


# what was told already


def due(memory: Path, signature: object, now: datetime) -> bool:
    """Whether these alerts are to be told: they are others than the last time, or a day has passed and they still are there."""
    try:
        told = json.loads(memory.read_text(encoding="utf-8"))
        at = datetime.fromisoformat(told["at"])
        same = told["alerts"] == signature
        recent = now - at < REMIND_AFTER
    except (OSError, ValueError, KeyError, TypeError):
        return bool(signature)  # nothing was told yet, or nobody knows what
    return not same or (bool(signature) and not recent)


def remember(memory: Path, signature: object, now: datetime) -> None:
    """Note what was told. Raises AtlasError where the file cannot be written."""
    part = memory.with_name(f"{memory.name}.{os.getpid()}.part")
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"at": now.isoformat(), "alerts": signature}) + "\n", encoding="utf-8")
        part.replace(memory)
    except OSError as error:
        raise AtlasError(
            what=f"{memory} cannot be written.",
            why=f"{error.strerror}. Without it the same message would be sent at each look.",
            next="Give another folder with --records, or cure this one.",
        ) from None
