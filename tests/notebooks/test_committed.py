"""The notebooks as they are committed: without outputs, of one shape, short cells, links that lead somewhere."""

import ast
import re
import statistics
from pathlib import Path

import nbformat
import pytest

from atlas_ops import runner
from atlas_ops.stages import STAGES

FOLDER = Path(__file__).parents[2] / "notebooks"
BOOKS = sorted(FOLDER.glob("*.ipynb"))
COMMON = """\
database = "demo"   # libpq service name; "demo" is the embedded database
tables = []         # table specifications as in parameters/*.yml; empty: those of parameters/<database>.yml
confirm = ""        # digest of the plan you approve; empty shows the plan only
as_of = ""          # the day to plan from, such as 2026-11-23; empty: today, UTC"""


@pytest.fixture(params=BOOKS, ids=lambda path: path.stem)
def book(request):
    return request.param, nbformat.read(request.param, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_every_stage_has_its_notebook():
    assert {runner.stage_name(path) for path in BOOKS} == set(STAGES)


def test_it_is_valid_and_holds_no_output(book):
    _, notebook = book
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in code(notebook))
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.language_info == {"name": "python"}
    assert notebook.metadata.kernelspec.name == "python3"


def test_its_parameters_are_the_four_lines_then_its_own(book):
    path, notebook = book
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert cell.source.startswith(COMMON)
    names = [node.targets[0].id for node in ast.parse(cell.source).body]
    assert list(runner.declared(path)) == names, "papermill reads every one of them"


def test_it_begins_with_its_question_and_the_table_of_four_answers(book):
    path, notebook = book
    lines = notebook.cells[0].source.splitlines()
    assert re.fullmatch(rf"# {path.stem[:2]} [A-Z].+", lines[0])
    assert lines[1].startswith("**")
    assert "| changes the database | strongest lock | safe to run twice | undo |" in lines


def test_its_setup_names_its_own_stage(book):
    path, notebook = book
    setup = next(cell.source for cell in code(notebook) if "import atlas_ops as ops" in cell.source)
    assert f'ops.start("{runner.stage_name(path)}", database, tables, confirm, as_of)' in setup


def test_it_ends_in_the_verdict(book):
    _, notebook = book
    assert notebook.cells[-1].source == "run.finish()"
    assert notebook.cells[-2].source.startswith("## What next")


def test_its_cells_are_short_and_prose_comes_before_code(book):
    _, notebook = book
    lengths = [len(cell.source.splitlines()) for cell in code(notebook) if not cell.metadata.get("tags")]
    assert max(lengths) <= 8
    assert statistics.median(lengths) <= 2
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert all(len(text.split()) <= 350 for text in prose)
    for before, cell in zip(notebook.cells, notebook.cells[1:], strict=False):
        if cell.cell_type == "markdown":
            assert before.cell_type != "markdown" or cell.source.startswith("## ")


def test_its_links_lead_somewhere(book):
    _, notebook = book
    for cell in notebook.cells:
        for target in re.findall(r"\]\(([^)#]+)\)", cell.source):
            assert (FOLDER / target).exists(), target


def test_no_cell_asks_for_rows_of_a_users_table(book):
    """Figures and catalogs only: a record must not hold what users wrote."""
    _, notebook = book
    for cell in code(notebook):
        if cell.source.startswith("%%sql"):
            assert not re.search(r"select\s+\*\s+from\s+(messages|usage_logs)", cell.source, re.IGNORECASE)
            assert not re.search(r"\b(content|metadata|email|data)\b", cell.source, re.IGNORECASE)
