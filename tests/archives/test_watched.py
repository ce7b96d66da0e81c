"""What 09 says of months that have left: no proof, a proof, a manifest that cannot be read."""

from __future__ import annotations

from archives.road import Road

from atlas_ops import alerts, examination, health_catalog
from atlas_ops.alerts import Alert, Level


def found(road: Road) -> dict[str, Alert]:
    """The alerts about the archive."""
    [vitals] = health_catalog.vitals(road.where, [road.spec])
    judged = alerts.judge(vitals.spec, examination.examine(vitals, road.ops.as_of), road.ops.as_of)
    return {alert.figure: alert for alert in judged.alerts if alert.figure in ("unproven_archives", "not_read")}


def test_a_month_that_has_left_is_an_alert_until_its_files_are_proven(diary: Road) -> None:
    assert found(diary) == {}
    names = diary.detach()
    assert names and found(diary)["unproven_archives"].value == len(names)
    diary.export()
    assert found(diary)["unproven_archives"].value == len(names), "files that nobody has restored prove nothing"
    diary.prove()
    assert found(diary) == {}


def test_a_manifest_that_is_broken_is_a_line_and_proves_nothing(diary: Road) -> None:
    names = diary.detach()
    diary.export()
    diary.prove()
    assert not isinstance(diary.folder, str)
    [line, *_] = sorted(diary.folder.rglob("*_exported_*.json"))
    line.write_bytes(line.read_bytes().replace(b'"rows":', b'"rowz":'))
    told = found(diary)
    assert told["unproven_archives"].value == len(names)
    assert told["not_read"].level is Level.UNKNOWN and told["not_read"].told.startswith("the manifest of the archive: ")


def test_a_month_that_came_back_and_left_again_needs_a_proof_of_its_own(diary: Road) -> None:
    names = diary.detach()
    diary.export()
    diary.prove()
    diary.drop()
    diary.restore(names[0])
    assert found(diary) == {}
    assert diary.detach() == [names[0]]
    assert found(diary)["unproven_archives"].value == 1
