"""Names as words, for people."""


def in_words(name: str) -> str:
    """``skin_tone`` as "skin tone"."""
    return name.replace("_", " ")
