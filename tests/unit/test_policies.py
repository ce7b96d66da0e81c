"""Which calls in a policy are made for every row, and the text that makes them once."""

from __future__ import annotations

import pytest

from atlas_ops import policies

UID = "( SELECT auth.uid())"


@pytest.mark.parametrize(
    ("expression", "rewritten"),
    [
        ("(auth.uid() = user_id)", f"({UID} = user_id)"),
        ("((auth.uid() = user_id) OR (auth.uid() = other))", f"(({UID} = user_id) OR ({UID} = other))"),
        ("((auth.jwt() ->> 'role'::text) = 'x'::text)", "((( SELECT auth.jwt()) ->> 'role'::text) = 'x'::text)"),
        ("(auth.role() = 'service_role'::text)", "(( SELECT auth.role()) = 'service_role'::text)"),
        (
            "(tenant = (current_setting('app.tenant'::text, true))::integer)",
            "(tenant = (( SELECT current_setting('app.tenant'::text, true)))::integer)",
        ),
        # in a sub-select that reads a table it is called for every row of that
        (
            "(EXISTS ( SELECT 1\n   FROM team t\n  WHERE ((t.id = doc.team) AND (t.member = auth.uid()))))",
            f"(EXISTS ( SELECT 1\n   FROM team t\n  WHERE ((t.id = doc.team) AND (t.member = {UID}))))",
        ),
        # one of two
        (
            "((user_id = ( SELECT auth.uid() AS uid)) OR (auth.uid() = b))",
            f"((user_id = ( SELECT auth.uid() AS uid)) OR ({UID} = b))",
        ),
        (
            '(("ключ é" = \'ü auth.uid() \'::text) AND (auth.uid() = "Ö"))',
            f'(("ключ é" = \'ü auth.uid() \'::text) AND ({UID} = "Ö"))',
        ),
        ("((a = E'\\\\'::text) AND (auth.uid() = b))", f"((a = E'\\\\'::text) AND ({UID} = b))"),
        # everything else stays as it is printed
        (
            "((created_at > (now() - '1 day'::interval)) AND (auth.uid() = u) AND (name ~~* '%x'::text))",
            f"((created_at > (now() - '1 day'::interval)) AND ({UID} = u) AND (name ~~* '%x'::text))",
        ),
    ],
)
def test_each_call_for_every_row_goes_into_a_sub_select(expression: str, rewritten: str) -> None:
    assert policies.once(expression) == rewritten
    assert policies.once(rewritten) == rewritten, "a form that is wrapped already is left alone"


@pytest.mark.parametrize(
    "expression",
    [
        "true",
        "(user_id = ( SELECT auth.uid() AS uid))",
        "(a = (( SELECT current_setting('x'::text, true) AS current_setting))::integer)",
        "(other.uid() = user_id)",
        "(note = 'auth.uid()'::text)",
        "(note = '-- auth.uid()'::text)",
        '("auth.uid" = 1)',
        "(current_setting(setting_name) = 'x'::text)",  # of the row: it cannot be called once
    ],
)
def test_what_is_called_once_or_not_at_all_is_left_alone(expression: str) -> None:
    assert policies.once(expression) == expression


@pytest.mark.parametrize("expression", ["(auth.uid() = ", "(auth.uid() ?? OPERATOR(x) ) ) )", "(a = ANY (auth.jwt()))"])
def test_what_cannot_be_read_for_certain_is_not_guessed(expression: str) -> None:
    assert policies.once(expression) is None
