"""Pages of plans: where they lie, what they are called, what is refused, and that nothing is left half done."""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from atlas_ops import plan_pages, record
from atlas_ops.errors import AtlasError

ROOT = Path(__file__).parents[2]
VENDORED = ROOT / "atlas_ops" / "assets" / "pev2"
ASSETS = {
    "bootstrap.LICENSE",
    "bootstrap.min.css",
    "pev2.LICENSE",
    "pev2.css",
    "pev2.umd.js",
    "plan.js",
    "vue.LICENSE",
    "vue.runtime.global.prod.js",
}


def plan(query: str = "count", side: str = "original", **more: Any) -> dict[str, Any]:
    document = {"Plan": {"Node Type": "Seq Scan", "Alias": "m"}, "Planning Time": 0.2, "Execution Time": 1234.5}
    return {"query": query, "side": side, "title": "of its own", "sql": "SELECT 1", "plan": document, **more}


def notebook(place: Path, *outputs: Any, name: str = "out.ipynb") -> Path:
    cells = [{"cell_type": "markdown", "source": "# x"}]
    for shown in outputs:
        data = {plan_pages.MIME: shown, "text/plain": "plans"}
        cells.append({"cell_type": "code", "outputs": [{"output_type": "display_data", "data": data}]})
    path = place / name
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


def written(place: Path, *plans: dict[str, Any], name: str = "out.ipynb") -> list[str]:
    return [path.name for path in plan_pages.write(notebook(place, {"plans": list(plans)}, name=name))]


@pytest.fixture(autouse=True)
def _no_passwords_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pgpass"))
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "pg_service.conf"))
    for name in ("PGPASSWORD", "DATABASE_URL", "PGSYSCONFDIR"):
        monkeypatch.delenv(name, raising=False)


def test_a_notebook_without_plans_gets_no_page(tmp_path):
    assert plan_pages.write(notebook(tmp_path)) == []
    assert plan_pages.write(notebook(tmp_path, {"plans": []})) == []
    assert not (tmp_path / "plans").exists()


def test_each_plan_has_a_page_and_what_explain_printed_and_the_assets_lie_there_once(tmp_path):
    first = notebook(tmp_path, {"plans": [plan(), plan(side="partitioned")]}, {"plans": [plan("sync", "generic")]})
    paths = plan_pages.write(first)
    place = tmp_path / "plans" / "out"
    stems = ("count_original", "count_partitioned", "sync_generic")
    assert paths == [place / "index.html", *(place / f"{stem}{end}" for stem in stems for end in (".html", ".json"))]
    assert {path.name for path in place.iterdir()} == {path.name for path in paths}
    assert json.loads((place / "count_original.json").read_text()) == [plan()["plan"]]
    written(tmp_path, plan(), name="other.ipynb")
    assert {path.name for path in (tmp_path / "plans").iterdir()} == {"assets", "out", "other"}
    assert {path.name for path in (tmp_path / "plans" / "assets").iterdir()} == ASSETS
    page = (place / "count_original.html").read_text()
    assert set(re.findall(r'(?:src|href)="([^"]+)"', page)) == {
        "index.html", "count_partitioned.html", "count_original.json", "../assets/bootstrap.min.css", "../assets/pev2.css",
        "../assets/vue.runtime.global.prod.js", "../assets/pev2.umd.js", "../assets/plan.js",
    }  # fmt: skip
    index = (place / "index.html").read_text()
    assert "1,234.500" in index and "3 plans" in index and "The record" not in index


def test_the_keys_of_a_plan_stay_in_the_order_of_the_server(tmp_path):
    written(tmp_path, plan())
    page = (tmp_path / "plans" / "out" / "count_original.html").read_text()
    assert page.index('"Node Type"') < page.index('"Alias"') < page.index('"Planning Time"')


def test_a_record_with_a_page_is_linked_from_its_plans(tmp_path):
    (tmp_path / "a b.html").touch()
    written(tmp_path, plan(), name="a b.ipynb")
    assert 'href="../../a%20b.html"' in (tmp_path / "plans" / "a b" / "index.html").read_text()


@pytest.mark.parametrize(
    ("query", "side", "stem"),
    [
        ("history_page", "rewrite with a bound", "history_page_rewrite_with_a_bound"),
        ("../../etc/passwd", "original", "etc_passwd_original"),
        ("a/b\\c:d*?", "x", "a_b_c_d__x"),
        ("", "", "plan"),
        ("индекс", "…", "plan"),
        ("x" * 5_000, "original", "x" * 80),
        (".hidden", ".", "hidden"),
        ("-rf", "o", "rf_o"),
        ("a\0b\n", "o", "a_b__o"),
        ("index", "", "index_2"),
    ],
)
def test_any_name_of_a_query_makes_a_name_of_a_file(tmp_path, query, side, stem):
    assert written(tmp_path, plan(query, side)) == ["index.html", f"{stem}.html", f"{stem}.json"]
    assert {path.name for path in tmp_path.iterdir()} == {"out.ipynb", "plans"}


def test_plans_whose_names_become_one_keep_a_page_each(tmp_path):
    shown = [plan("Count"), plan("count", sql="SELECT 2"), plan("count", sql="SELECT 3"), plan("count", sql="SELECT 3")]
    names = written(tmp_path, *shown)
    assert names[1::2] == ["Count_original.html", "count_original_2.html", "count_original_3.html"]


@pytest.mark.parametrize("name", ["assets.ipynb", "Assets.ipynb"])
def test_a_notebook_named_as_the_assets_has_a_folder_of_its_own(tmp_path, name):
    assert written(tmp_path, plan(), name=name)[0] == "index.html"
    assert {path.name for path in (tmp_path / "plans").iterdir()} == {"assets", f"{name.removesuffix('.ipynb')}_"}


def test_a_second_time_nothing_changes(tmp_path):
    path = notebook(tmp_path, {"plans": [plan(), plan(side="partitioned")]})
    first = plan_pages.write(path)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "plans").rglob("*") if file.is_file()}
    assert plan_pages.write(path) == first
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "plans").rglob("*") if file.is_file()} == before


def test_what_is_shown_no_more_goes_and_what_is_not_ours_stays(tmp_path):
    written(tmp_path, plan("before"), plan("stays"))
    place = tmp_path / "plans" / "out"
    (place / "notes.txt").write_text("a DBA's")
    (tmp_path / "plans" / "assets" / "pev2.umd.js").write_text("a copy that was cut off")
    written(tmp_path, plan("stays"))
    assert {file.name for file in place.iterdir()} == {
        "index.html",
        "stays_original.html",
        "stays_original.json",
        "notes.txt",
    }
    assert (tmp_path / "plans" / "assets" / "pev2.umd.js").read_bytes() == (VENDORED / "pev2.umd.js").read_bytes()


HOSTILE = "</script><script>alert(1)</script><!--<script>\u2028&amp;'\"]]>"


def test_no_text_of_a_plan_ends_the_script_that_holds_it(tmp_path):
    document = {"Plan": {"Node Type": "Seq Scan", HOSTILE: HOSTILE}}
    written(tmp_path, plan("q", "original", title=HOSTILE, sql=HOSTILE, plan=document))
    page = (tmp_path / "plans" / "out" / "q_original.html").read_text()
    (embedded,) = re.findall(r'<script type="application/json" id="plan">(.*?)</script>', page, re.DOTALL)
    assert json.loads(embedded) == {"query": HOSTILE, "plan": document}
    assert not re.search(r"[<>&\u2028]", embedded)
    assert page.count("<script") == 4 and "alert(1)</script>" not in page
    assert "<script" not in (tmp_path / "plans" / "out" / "index.html").read_text()


def test_text_that_is_no_unicode_is_kept_as_json_writes_it(tmp_path):
    written(tmp_path, plan(plan={"Plan": {"Alias": "\ud800"}}))
    assert json.loads((tmp_path / "plans" / "out" / "count_original.json").read_text()) == [
        {"Plan": {"Alias": "\ud800"}}
    ]


SECRET = "p@ss: wörd/\"1'<&+\\"


@pytest.mark.parametrize("where", ["query", "side", "title", "sql", "plan", "key"])
def test_plans_that_hold_a_password_are_refused_and_nothing_is_written(tmp_path, monkeypatch, where):
    monkeypatch.setenv("PGPASSWORD", SECRET)
    leaking = {
        "plan": {"plan": {"Plan": {"Filter": f"(x = '{SECRET}'::text)"}}},
        "key": {"plan": {"Plan": {SECRET: 1}}},
    }.get(where, {where: f"before {SECRET} after"})
    with pytest.raises(AtlasError, match="The plans hold a password") as raised:
        written(tmp_path, plan("fine"), {**plan("leaks"), **leaking})
    assert SECRET not in str(raised.value)
    assert not (tmp_path / "plans").exists()


@pytest.mark.parametrize(
    ("shown", "why"),
    [
        ("text", "the output is not as this version writes it"),
        ({}, "plans is not"),
        ({"plans": {"a": 1}}, "plans is not"),
        ({"plans": [[]]}, "plans.0 is not"),
        ({"plans": [{**plan(), "query": 7}]}, "plans.0.query is not"),
        ({"plans": [plan(), {**plan(), "plan": [{"Plan": {}}]}]}, "plans.1.plan is not"),
        ({"plans": [{**plan(), "plan": {"Query": "x"}}]}, "no document of EXPLAIN"),
        ({"plans": [{**plan(), "plan": {"Plan": None}}]}, "no document of EXPLAIN"),
    ],
)
def test_an_output_of_another_form_is_refused(tmp_path, shown, why):
    with pytest.raises(AtlasError, match=r"The plans in out\.ipynb cannot be read") as raised:
        plan_pages.write(notebook(tmp_path, shown))
    assert why in raised.value.why
    assert not (tmp_path / "plans").exists()


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'"x"', b"\xff", b"{}", b'{"cells": 1}'])
def test_what_is_no_notebook_is_refused(tmp_path, content):
    path = tmp_path / "x.ipynb"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AtlasError, match="cannot be read"):
        plan_pages.write(path)


def test_a_folder_that_cannot_be_written_to_is_an_error_with_the_way_to_go_on(tmp_path):
    (tmp_path / "plans").write_text("a file")
    with pytest.raises(AtlasError, match="cannot be written") as raised:
        written(tmp_path, plan())
    assert raised.value.next.endswith(f"atlas-ops plans {tmp_path / 'out.ipynb'}")


def command(*words: str, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "atlas_ops", "plans", *words],
        cwd=cwd, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(cwd), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, check=False, **options,
    )  # fmt: skip


def test_a_page_that_could_not_be_finished_is_not_there(tmp_path):
    written(tmp_path, plan())
    before = {file: file.read_bytes() for file in (tmp_path / "plans").rglob("*") if file.is_file()}
    notebook(tmp_path, {"plans": [plan(sql="x" * 100_000)]})
    # As on a full disk, the file system takes a part of the page and no more.
    done = command(
        "out.ipynb", cwd=tmp_path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000,) * 2)
    )
    assert done.returncode == 1
    assert done.stderr.split()[:7] == ["STOPPED:", "The", "plans", "of", "out.ipynb", "cannot", "be"]
    assert "because: File too large." in done.stderr
    assert {file: file.read_bytes() for file in (tmp_path / "plans").rglob("*") if file.is_file()} == before


def test_the_command_writes_the_pages_of_a_record_and_its_index_links_them(tmp_path):
    name = "20261123T060000Z_explain_analysis.ipynb"
    notebook(tmp_path, {"plans": [plan()]}, name=name)
    record.index(tmp_path, record.entries(tmp_path))
    link = 'href="plans/20261123T060000Z_explain_analysis/index.html"'
    assert link not in (tmp_path / "index.html").read_text()
    done = command(name, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Open first: plans/20261123T060000Z_explain_analysis/index.html\n"
    assert link in (tmp_path / "index.html").read_text()


def test_the_command_leaves_an_index_alone_that_is_not_of_records(tmp_path):
    (tmp_path / "index.html").write_text("somebody's")
    notebook(tmp_path, {"plans": [plan()]})
    assert command("out.ipynb", cwd=tmp_path).returncode == 0
    assert (tmp_path / "index.html").read_text() == "somebody's"


def test_the_command_says_that_there_is_nothing_to_draw_and_what_it_cannot_read(tmp_path):
    notebook(tmp_path)
    done = command("out.ipynb", cwd=tmp_path)
    assert (done.returncode, done.stdout[:22]) == (0, "No plans in out.ipynb.")
    done = command("absent.ipynb", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip().startswith("STOPPED: The notebook absent.ipynb cannot be read.")


# What was copied


def test_the_versions_that_are_told_are_those_of_the_files():
    told = dict(re.findall(r"^\| (\w+) \| ([\d.]+) \|", (VENDORED / "README.md").read_text(), re.MULTILINE))
    assert set(told) == {"pev2", "vue", "bootstrap"}
    assert f"vue v{told['vue']}" in (VENDORED / "vue.runtime.global.prod.js").read_text()[:200]
    assert f"v{told['bootstrap']}" in (VENDORED / "bootstrap.min.css").read_text()[:200]
    assert f'"{told["pev2"]}"' in (VENDORED / "pev2.umd.js").read_text()


def test_each_copied_package_has_its_licence_beside_it():
    assert {path.name for path in VENDORED.iterdir()} == ASSETS - {"plan.js"} | {"README.md"}
    for package, words in {"pev2": "Dalibo", "vue": "The MIT License", "bootstrap": "The MIT License"}.items():
        assert words in (VENDORED / f"{package}.LICENSE").read_text()


def test_the_wheel_holds_what_draws_the_plans(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(ROOT / "atlas_ops", source / "atlas_ops", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "-w"]
    subprocess.run([*build, str(tmp_path), str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    pages = {"plan.js", "plan.html.j2", "plans.html.j2"}
    assert {f"atlas_ops/assets/{name}" for name in pages} <= names
    assert {f"atlas_ops/assets/pev2/{name}" for name in ASSETS - {"plan.js"}} <= names
