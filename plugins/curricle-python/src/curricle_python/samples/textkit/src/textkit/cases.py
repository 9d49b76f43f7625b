"""Names in the cases of programming languages."""


def to_snake(name: str) -> str:
    """Turn `HTTPServer` or `someName` into `http_server` and `some_name`."""
    words: list[str] = []
    for index, letter in enumerate(name):
        after_lower = index > 0 and not name[index - 1].isupper()
        before_lower = index + 1 < len(name) and name[index + 1].islower()
        if letter.isupper() and index > 0 and (after_lower or before_lower):
            words.append("_")
        words.append(letter.lower())
    return "".join(words).replace("__", "_")


def to_camel(name: str, upper: bool = False) -> str:
    """Turn `some_name` into `someName`, or `SomeName` when `upper`."""
    words = [word for word in name.split("_") if word]
    if not words:
        return ""
    first = words[0].capitalize() if upper else words[0].lower()
    return first + "".join(word.capitalize() for word in words[1:])


def initials(name: str, separator: str = ".") -> str:
    """The first letters of a name's words, each followed by the separator."""
    return "".join(word[0].upper() + separator for word in name.split())
