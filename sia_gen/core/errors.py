"""The two ways a call can end badly; each message is one line: value, limit, remedy."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any


class RequestError(ValueError):
    """The request was wrong (exit status 2): an unknown name, a value outside its range, an unusable place."""


class WorkError(RuntimeError):
    """The request was right but the work failed (exit status 1): no network, a target that returns NaN."""


class DamageError(RequestError, WorkError):
    """A file that the request names is damaged or refused (exit status 2)."""


@contextmanager
def named_file() -> Iterator[None]:
    """Makes a `DamageError` of the `WorkError` of a block that reads nothing but what the request names."""
    try:
        yield
    except RequestError:
        raise
    except WorkError as error:
        raise DamageError(str(error)) from None


FEW = 8  # names, of which one finds the right one by oneself
MANY = 40  # names, of which more are not listed
LONGEST = 80  # letters that are repeated of what was given


def shown(given: Any) -> str:
    """What was given, as part of one line."""
    return "".join(letter if letter.isprintable() else " " for letter in str(given)[:LONGEST])


def unknown(kind: str, name: str, known: list[str], remedy: str = "choose one of these") -> RequestError:
    """An error for a name that is not in a closed set; it lists what exists."""
    name = shown(name)
    if any(" " in each for each in known):  # a list of words would read as a sentence
        known = [f"'{each}'" for each in known]
    near = get_close_matches(name, known, 1, cutoff=0.75) if len(known) > FEW else []
    meant = f", did you mean '{near[0]}'?" if near else ":"
    more = f" … and {len(known) - MANY} more" if len(known) > MANY else ""
    return RequestError(f"unknown {kind} '{name}'{meant} there are {', '.join(known[:MANY]) or 'none'}{more}; {remedy}")


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The first setting that was another one before, in words; of two dictionaries, what is not alike in them."""
    for name in (name for name in {**before, **now} if before.get(name) != now.get(name)):
        was, given = before.get(name), now.get(name)
        if isinstance(was, dict) and isinstance(given, dict):
            keys = [key for key in {**was, **given} if was.get(key) != given.get(key)]
            was, given = ({key: each.get(key) for key in keys} for each in (was, given))
        return f"{name}={was}, not {given}"
    return None


class Cancelled(Exception):
    """Raised by a progress callback to stop long work; what is finished stays finished."""
