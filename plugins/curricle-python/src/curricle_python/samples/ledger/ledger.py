"""Entries are pairs of an account's name and an amount in cents."""


def balance(entries, account):
    """The sum of an account's amounts."""
    total = 0
    for name, amount in entries:
        if name == account:
            total += amount
    return total


def overdrawn(entries):
    """The names of accounts below zero, sorted."""
    names = sorted({name for name, _ in entries})
    return [name for name in names if balance(entries, name) < 0]


def split_evenly(amount, people):
    """Shares that differ by one cent at most and sum to the amount; larger ones first."""
    if people < 1:
        raise ValueError("somebody has to pay")
    share, rest = divmod(amount, people)
    return [share + 1] * rest + [share] * (people - rest)


def format_amount(cents):
    """Cents as text, such as `-12.05`."""
    sign = "-" if cents < 0 else ""
    whole, part = divmod(abs(cents), 100)
    return f"{sign}{whole}.{part:02d}"


def parse_amount(text):
    """The cents of a text such as `12`, `12.5` or `-12.05`."""
    negative = text.startswith("-")
    whole, _, part = text.lstrip("-").partition(".")
    if not whole.isdigit() or (part and not part.isdigit()) or part[2:]:
        raise ValueError(f"no amount: {text!r}")
    cents = int(whole) * 100 + int(part.ljust(2, "0") or 0)
    return -cents if negative else cents


def running_totals(amounts, start=0):
    """The total after each amount."""
    totals = []
    for amount in amounts:
        start += amount
        totals.append(start)
    return totals


def largest(entries, count):
    """The entries of the largest absolute amounts, the first of equals first."""
    if count <= 0:
        return []
    return sorted(entries, key=lambda entry: -abs(entry[1]))[:count]


def transfer(entries, source, target, amount):
    """The entries with an amount moved between two accounts that are not the same."""
    if amount <= 0 or source == target:
        raise ValueError("nothing to move")
    if balance(entries, source) < amount:
        raise ValueError("too little to move")
    return [*entries, (source, -amount), (target, amount)]
