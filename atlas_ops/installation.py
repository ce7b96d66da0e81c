"""The objects that we keep in the database (sql/install), and the step that brings them up to this package's text. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from psycopg import sql

from atlas_ops import sqlfile
from atlas_ops.definition import text
from atlas_ops.model import Installed
from atlas_ops.plan import Step

INSTALL = tuple(sqlfile.names("install"))
INSTALLED_NAMES = tuple(entry.removeprefix("public.") for entry in INSTALL if entry.startswith("public."))


def install_digest(object_name: str) -> str:
    """Sixteen hexadecimal digits over the text that makes one of our database objects."""
    return hashlib.sha256(sqlfile.text("install", object_name).encode()).hexdigest()[:16]


def install_step(installed: Sequence[Installed]) -> Step | None:
    """What is missing or older than this package of our own database objects; None where nothing is."""
    have = {found.name: found.digest for found in installed}
    missing = [object_name for object_name in INSTALL if have.get(object_name) != install_digest(object_name)]
    if not missing:
        return None
    remember = [
        text(
            sql.SQL(
                "INSERT INTO atlas_ops.installed_object (name, digest) VALUES ({}, {}) "
                "ON CONFLICT (name) DO UPDATE SET digest = excluded.digest"
            ).format(sql.Literal(object_name), sql.Literal(install_digest(object_name)))
        )
        for object_name in missing
    ]
    return Step(
        name="install " + ", ".join(missing),
        statements=(*(sqlfile.text("install", object_name).strip() for object_name in missing), *remember),
        lock="ACCESS EXCLUSIVE",
        on="our own objects only",
        why="Sizes, health and future partitions are asked from the database itself; no role of the application may call them.",
    )
