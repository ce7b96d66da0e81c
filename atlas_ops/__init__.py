"""Take the big tables of a live PostgreSQL database to monthly partitions, from notebooks.

A notebook needs two names: `start`, which begins a stage, and `load_ipython_extension`, which `%load_ext atlas_ops` calls.
Both are imported when they are first used, so that `import atlas_ops` stays quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__version__ = "0.1.0"


def start(stage: str, database: str, tables: list[dict[str, Any]], confirm: str = "", as_of: str = "") -> Any:
    """Begin a stage of a notebook; see `atlas_ops.stages.start`."""
    from atlas_ops import stages  # noqa: PLC0415

    return stages.start(stage, database, tables, confirm, as_of)


def load_ipython_extension(shell: InteractiveShell) -> None:
    """What `%load_ext atlas_ops` calls: registers the strict %sql magic."""
    from atlas_ops import magic  # noqa: PLC0415

    magic.load_ipython_extension(shell)
