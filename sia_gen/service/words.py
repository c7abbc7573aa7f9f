"""Words for people: names, and what is said in several places."""

HOW_READ = "readings move less than the truth, changes make up for it"


def in_words(name: str) -> str:
    """``skin_tone`` as "skin tone"."""
    return name.replace("_", " ")
