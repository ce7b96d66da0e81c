"""What the process that is killed does: one station of the road of `diary`, up to the step at which it ends itself."""

from __future__ import annotations

import os
import resource
import signal
from datetime import date
from typing import Any

from archives.road import LATER

from atlas_ops import catalog, database, division, execute, months, restoring
from atlas_ops.archive import STAGE, plan_archive
from atlas_ops.errors import AtlasError
from atlas_ops.settings import tables_from


def station(
    conninfo: str, keys: dict[str, Any], day: str, how: str, die_at: str = "", file_bytes: int = 0
) -> dict[str, Any]:
    """Detach, export, prove, drop or restore all that is due. `die_at`: how the label of the progress begins at which it is killed; `file_bytes`: how
    large a file may get. Returns what it heard, and what stopped it."""
    heard: list[str] = []

    def says(done: int, total: int, label: str = "") -> None:
        if not heard or heard[-1] != label:
            heard.append(label)
        if die_at and label.startswith(die_at):
            os.kill(os.getpid(), signal.SIGKILL)

    if file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    [spec] = tables_from([keys])
    where = database.Session("test", conninfo, STAGE)
    with database.connect(where) as connection:
        snapshot = catalog.snapshot(connection, spec, division.names_needed(spec, date.fromisoformat(day)))
    stop = ""
    try:
        found = months.read(where, spec, snapshot)
        if how == "detach":
            plan = plan_archive(spec, snapshot, LATER)
            execute.execute(where, plan, plan.digest, says)
        elif how == "export":
            exporting = months.exporting([found], (), "archive")
            months.run_export(exporting, exporting.plan.digest, says)
        elif how == "prove":
            proving = months.proving([found])
            months.prove(proving, proving.plan.digest, says)
        elif how == "drop":
            dropping = months.dropping([found])
            months.drop(dropping, dropping.plan.digest, says)
        else:
            coming = restoring.returning(
                [found], [name for name, month in found.months.items() if not month.restored], how, "attach"
            )
            restoring.run(coming, coming.plan.digest, says)
    except AtlasError as error:
        stop = str(error)
    return {"heard": heard, "stop": stop}
