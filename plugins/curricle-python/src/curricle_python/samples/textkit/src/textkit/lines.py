"""Lines of text: wrapping, indenting, justifying."""


def wrap(text: str, width: int) -> list[str]:
    """Break text into lines of at most `width` characters; a longer word has its own line.

    Raises:
        ValueError: `width` is not positive.
    """
    if width <= 0:
        raise ValueError("width must be positive")
    lines: list[str] = []
    current = ""
    for word in text.split():
        if current and len(current) + 1 + len(word) > width:
            lines.append(current)
            current = word
        else:
            current = f"{current} {word}" if current else word
    if current:
        lines.append(current)
    return lines


def indent(text: str, spaces: int = 4, skip_first: bool = False) -> str:
    """Put spaces before every line that is not blank."""
    lines = text.split("\n")
    indented = []
    for number, line in enumerate(lines):
        if line.strip() and not (skip_first and number == 0):
            line = " " * spaces + line
        indented.append(line)
    return "\n".join(indented)


def justify(words: list[str], width: int) -> str:
    """Join words with spaces to exactly `width` characters; the left gaps are the wider ones."""
    if len(words) == 1:
        return words[0].ljust(width)
    gaps = len(words) - 1
    spaces = width - sum(len(word) for word in words)
    if spaces < gaps:
        raise ValueError("the words do not fit")
    line = words[0]
    for index, word in enumerate(words[1:]):
        extra = 1 if index < spaces % gaps else 0
        line += " " * (spaces // gaps + extra) + word
    return line
