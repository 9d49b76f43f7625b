import json

import pytest

from curricle.execution.baselines import Baselines, drawn_output
from curricle.execution.evaluate import prepare_project
from curricle.languages import BugTask, Mutant, Project, ProjectMutant
from tests.execution.python_projects import BACKEND, LIMITS

SOURCE = """
import os
from datetime import tzinfo


class Account:
    def __init__(self, balance=0):
        self.balance = balance
        self.log = []

    def withdraw(self, amount):
        if amount > self.balance:
            raise ValueError("too much")
        self.balance -= amount
        self.log.append(amount)
        return self.__rounded(self.balance)

    def __rounded(self, amount):
        return round(amount, 2)

    def helper(amount):
        return amount + 1

    limit = helper(9)
    del helper


def evens(limit, *, start=0):
    for number in range(start, limit):
        if number % 2 == 0:
            yield number


def sort_in_place(items):
    items.sort()


def mean(values):
    return sum(values) / len(values)


class Zone(tzinfo):
    # It is pickled without its argument, and cannot be read back.
    def __init__(self, offset):
        self.offset = offset


class Span:
    # One that is refused is left without what its repr shows.
    def __init__(self, start, end):
        if end < start:
            raise ValueError("backwards")
        self.start, self.end = start, end

    def __repr__(self):
        return f"Span({self.start}, {self.end})"


def shut(number):
    try:
        os.close(number)
    except OSError:
        pass
    return -number


def hours(place):
    return place.offset if isinstance(place, Zone) else place * 2
"""
TESTS = """
from accounts import Account, Span, Zone, evens, hours, mean, shut, sort_in_place
import pytest


def test_withdraw():
    account = Account(10)
    assert account.withdraw(3) == 7
    with pytest.raises(ValueError):
        account.withdraw(8)


def test_evens():
    assert list(evens(7, start=1)) == [2, 4, 6]


def test_sort_in_place():
    items = [3, 1, 2]
    sort_in_place(items)
    assert items == [1, 2, 3]


def test_mean():
    assert mean([1, 2, 6]) == 3


def test_span():
    assert Span(1, 3).end == 3
    assert Span(2, 4).start == 2


def test_shut():
    assert shut(13) == -13


def test_hours():
    assert hours(Zone(3)) == 3
    assert hours(4) == 8
"""


@pytest.fixture(scope="module")
def accounts(sandbox, tmp_path_factory):
    folder = tmp_path_factory.mktemp("accounts")
    (folder / "accounts.py").write_text(SOURCE)
    (folder / "test_accounts.py").write_text(TESTS)
    project = Project("accounts", "python", folder, "d", ("accounts.py",), ("test_*.py",))
    return prepare_project(BACKEND, project, folder.parent / "store", sandbox, LIMITS)


@pytest.fixture(scope="module")
def baselines():
    return Baselines()


def a_task(function):
    mutant = Mutant("by_hand", 0, 0, "", "", 1)
    return BugTask(
        ProjectMutant("accounts", "python", "accounts.py", function, mutant, "builtin", "1"),
        "d", (), (), (), "",
    )  # fmt: skip


@pytest.fixture
def differences(accounts, sandbox, baselines):
    def run(function, old, new):
        task = a_task(function)
        drawn = drawn_output(task, 0, BACKEND, accounts, sandbox, LIMITS, baselines)
        assert len(drawn.reports["compare.jsonl"].splitlines()) > 20
        assert old in SOURCE
        replayed = sandbox.run(
            BACKEND.comparison.replay(accounts, task, drawn), accounts,
            {"accounts.py": SOURCE.replace(old, new)}, LIMITS,
            binds=BACKEND.binds(), warm=BACKEND.warm,
        )  # fmt: skip
        return BACKEND.comparison.differences(drawn, replayed)

    return run


@pytest.mark.parametrize(
    ("function", "old", "new"),
    [
        ("Account.withdraw", "amount > self.balance", "not amount <= self.balance"),
        ("hours", "place * 2", "place + place"),
        ("Account.__rounded", "round(amount, 2)", "round(amount * 1, 2)"),
        ("Span.__init__", "end < start", "start > end"),
        ("shut", "-number", "0 - number"),
        ("evens", "number % 2 == 0", "not number & 1"),
        ("evens", "for number in range(start, limit):", "for number in list(range(start, limit)):"),
        ("sort_in_place", "items.sort()", "items[:] = sorted(items)"),
        ("mean", "sum(values) / len(values)", "sum(v / len(values) for v in values)"),
    ],
)
def test_an_equivalent_function_agrees(differences, function, old, new):
    assert not differences(function, old, new)


@pytest.mark.parametrize(
    ("function", "old", "new"),
    [
        ("Account.withdraw", "amount > self.balance", "amount >= self.balance"),
        ("Account.withdraw", "self.log.append(amount)", "pass"),
        ("Account.withdraw", "raise ValueError", "raise KeyError"),
        ("Account.__rounded", "round(amount, 2)", "round(amount, 2) + 1"),
        ("Span.__init__", "end < start", "end <= start"),
        ("evens", "number % 2 == 0", "number % 2 == 0 and number < 6"),
        ("sort_in_place", "items.sort()", "items.sort(reverse=len(items) > 3)"),
        ("mean", "sum(values) / len(values)", "sum(values) // len(values)"),
        ("mean", "    return sum", "    import os\n    os._exit(0)\n    return sum"),
    ],
)
def test_another_function_does_not(differences, function, old, new):
    assert differences(function, old, new)


def test_a_value_that_claims_to_be_equal_is_another(differences):
    lying = "class F(float):\n    __eq__ = lambda a, b: True\n\n\ndef mean("
    assert differences("mean", "def mean(", f"{lying}values):\n    return F()\n\n\ndef _mean(")


def test_a_function_that_is_gone_once_its_class_is_made_is_not_compared(
    accounts, sandbox, baselines
):
    drawn = drawn_output(a_task("Account.helper"), 0, BACKEND, accounts, sandbox, LIMITS, baselines)
    assert BACKEND.comparison.differences(drawn, drawn) == ()
    assert json.loads(drawn.reports["compare.jsonl"]) == {"count": 0}
