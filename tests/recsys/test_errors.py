from __future__ import annotations

import inspect
import re

import pytest

from recsys import errors
from recsys.errors import Overloaded, RecsysError, RequestError

CLASSES: list[type[RecsysError]] = [
    each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, RecsysError)
]


def drawn_tree() -> dict[str, str | None]:
    """Child → parent as the docstring of `recsys.errors` draws them; the root has no parent."""
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        drawn = re.match(r"^(?P<branches>[│├└─ ]*)(?P<name>[A-Z][A-Za-z]+)(?:\s|$)", line)
        if drawn is None or (not drawn["branches"] and drawn["name"] != "RecsysError"):
            continue
        depth = len(drawn["branches"]) // 4
        path[depth:] = [drawn["name"]]
        parents[drawn["name"]] = path[depth - 1] if depth else None
    return parents


def test_the_tree_that_is_drawn_is_the_tree_of_classes() -> None:
    of_classes = {each.__name__: each.__bases__[0].__name__ for each in CLASSES if each is not RecsysError}
    assert drawn_tree() == {"RecsysError": None, **of_classes}


def test_the_exit_code_is_1_where_a_gate_failed_and_2_for_everything_else() -> None:
    assert {each.__name__: each.exit_code for each in CLASSES if each.exit_code != 2} == {"GateFailed": 1}


def test_each_status_is_the_one_that_is_drawn() -> None:
    described = dict(re.findall(r"([A-Z][A-Za-z]+) .*\((?:HTTP )?(\d{3})", errors.__doc__ or ""))
    leaves = {each for each in CLASSES if issubclass(each, RequestError) and each is not RequestError}
    assert {each.__name__: str(each.status) for each in leaves} == described


def test_a_request_error_names_the_field_at_fault() -> None:
    error = errors.InvalidRequest("limit is at most 500", field="/limit")
    assert (str(error), error.field, error.status) == ("limit is at most 500", "/limit", 422)
    assert errors.InvalidRequest("the body is empty").field == ""


def test_a_full_service_says_when_to_come_back() -> None:
    assert (Overloaded("full").retry_after_s, Overloaded("full", retry_after_s=5).retry_after_s) == (1, 5)


@pytest.mark.parametrize("each", CLASSES, ids=lambda each: each.__name__)
def test_every_error_is_described(each: type[RecsysError]) -> None:
    assert each.__doc__
