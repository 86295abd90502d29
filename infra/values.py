"""Kinds of configuration values: each says what it allows, and parses that or raises `Invalid`.

Configuration comes from YAML, where a value has a type, and from Pulumi and the command line, where all is
text: a kind takes both, and never guesses (`yes` is not a boolean, `2.5` is not an integer).
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

__all__ = [
    "Invalid",
    "Kind",
    "choice",
    "destination",
    "duration",
    "expressions",
    "host",
    "image",
    "integer",
    "label",
    "maybe",
    "module",
    "names",
    "networks",
    "number",
    "pairs",
    "quantity",
    "reference",
    "size",
    "switch",
    "text",
    "texts",
]

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "Ki": 2**10, "Mi": 2**20}
_SMALLEST, _LARGEST = 2**20, 2**30
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Invalid(ValueError):
    """The value is not allowed; the message is a hint, or empty where `Kind.allowed` says it all."""


@dataclass(frozen=True)
class Kind:
    """One kind of value: `allowed` completes the sentence "allowed: …"."""

    allowed: str
    parse: Callable[[object], object]
    shown: bool = True
    """Whether a refused value may be shown: not where somebody may have typed a secret by mistake."""


def integer(low: int, high: int) -> Kind:
    """A whole number in a range."""

    def parse(raw: object) -> int:
        if isinstance(raw, str) and re.fullmatch(r"[+-]?\d{1,9}", raw.strip()):
            raw = int(raw)
        if isinstance(raw, bool) or not isinstance(raw, int) or not low <= raw <= high:
            raise Invalid
        return raw

    return Kind(f"a whole number from {low} to {high}", parse)


def number(low: float, high: float) -> Kind:
    """A number in a range."""

    def parse(raw: object) -> float:
        if isinstance(raw, str):
            try:
                raw = float(raw)
            except ValueError:
                raise Invalid from None
        if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
            raise Invalid
        if not low <= raw <= high:
            raise Invalid
        return float(raw)

    return Kind(f"a number from {low:g} to {high:g}", parse)


def switch() -> Kind:
    """True or false."""

    def parse(raw: object) -> bool:
        if isinstance(raw, str) and raw.strip().lower() in ("true", "false"):
            return raw.strip().lower() == "true"
        if not isinstance(raw, bool):
            raise Invalid
        return raw

    return Kind("true or false", parse)


def choice(options: Sequence[str]) -> Kind:
    """One of a few words."""

    def parse(raw: object) -> str:
        if isinstance(raw, str) and raw in options:
            return raw
        near = difflib.get_close_matches(str(raw), options, n=1)
        raise Invalid(f"did you mean {near[0]}?" if near else "")

    return Kind(" or ".join(options), parse)


def text() -> Kind:
    """A text without blanks."""

    def parse(raw: object) -> str:
        if not isinstance(raw, str) or not raw or re.search(r"\s", raw):
            raise Invalid
        return raw

    return Kind("a text without blanks", parse)


def reference() -> Kind:
    """Something in Python that can be imported where it is used."""

    def parse(raw: object) -> str:
        parts = raw.replace(":", ".").split(".") if isinstance(raw, str) and raw.count(":") == 1 else []
        if not parts or not all(part.isidentifier() for part in parts):
            raise Invalid
        return str(raw)

    return Kind("package.module:attribute", parse)


def quantity() -> Kind:
    """An amount of bytes as Kubernetes and daprd write it, kept as written."""

    def parse(raw: object) -> str:
        match = re.fullmatch(r"(\d{1,12})(K|M|Ki|Mi)?", str(raw)) if isinstance(raw, int | str) else None
        if match is None:
            raise Invalid
        if not _SMALLEST <= int(match[1]) * _UNITS[match[2] or ""] <= _LARGEST:
            raise Invalid
        return str(raw)

    return Kind("an amount of bytes from 1Mi to 1024Mi, such as 4Mi", parse)


def maybe(kind: Kind) -> Kind:
    """Such a value, or the empty text."""
    return Kind(f"{kind.allowed}, or nothing", lambda raw: "" if raw == "" else kind.parse(raw), kind.shown)


def module() -> Kind:
    """A Python module."""

    def parse(raw: object) -> str:
        if not isinstance(raw, str) or not all(part.isidentifier() for part in raw.split(".")):
            raise Invalid
        return raw

    return Kind("package.module", parse)


def destination(names: Sequence[str]) -> Kind:
    """One of a few names, or an address over HTTPS; on this machine HTTP does."""

    def parse(raw: object) -> str:
        if raw in names:
            return str(raw)
        if not isinstance(raw, str) or not re.fullmatch(
            r"(https://[^\s@]+|http://(127\.0\.0\.1|localhost)(:\d+)?(/[^\s@]*)?)", raw
        ):
            raise Invalid("to another machine only over https" if str(raw).startswith("http://") else "")
        return raw

    return Kind(f"{', '.join(names)}, or an address such as https://collector:4318/v1/traces", parse, shown=False)


def host() -> Kind:
    """A DNS name or an IPv4 address."""

    def parse(raw: object) -> str:
        if not isinstance(raw, str) or not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", raw):
            raise Invalid("without a scheme and a port" if isinstance(raw, str) and ":" in raw else "")
        return raw

    return Kind("a DNS name or an IPv4 address", parse)


def image() -> Kind:
    """A container image that stays the same: by tag or digest, and never the latest."""

    def parse(raw: object) -> str:
        if not isinstance(raw, str) or not re.fullmatch(r"\S+(:[\w][\w.-]*|@sha256:[0-9a-f]{64})", raw):
            raise Invalid
        if raw.endswith(":latest"):
            raise Invalid("latest is another image tomorrow")
        return raw

    return Kind("an image with its tag or digest", parse)


def duration() -> Kind:
    """A time as Go writes it."""

    def parse(raw: object) -> str:
        if not isinstance(raw, str) or not raw or not re.fullmatch(r"(\d+h)?(\d+m)?(\d+s)?", raw):
            raise Invalid
        return raw

    return Kind("a duration such as 720h or 90m", parse)


def size() -> Kind:
    """The size of a volume, kept as written."""

    def parse(raw: object) -> str:
        if not isinstance(raw, str) or not re.fullmatch(r"[1-9]\d{0,5}(Mi|Gi|Ti)", raw):
            raise Invalid
        return raw

    return Kind("a size such as 10Gi", parse)


def label() -> Kind:
    """A name as Kubernetes takes it."""

    def parse(raw: object) -> str:
        if not isinstance(raw, str) or not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", raw):
            raise Invalid
        return raw

    return Kind("a name of small letters, digits and hyphens", parse)


def texts() -> Kind:
    """A list of texts."""
    return Kind("a list of texts", lambda raw: _listed(raw))


def networks() -> Kind:
    """A list of networks."""

    def parse(raw: object) -> tuple[str, ...]:
        found = _listed(raw)
        for one in found:
            try:
                ipaddress.ip_network(one)
            except ValueError as error:
                raise Invalid(f"{one!r} is none: {error}") from None
        if not found:
            raise Invalid("nobody could reach anybody")
        return found

    return Kind("a list of networks such as 10.0.0.0/8", parse)


def pairs() -> Kind:
    """A list of `name=value`."""

    def parse(raw: object) -> tuple[str, ...]:
        found = _listed(raw)
        if not all(re.match(r"[^=\s]+=", one) for one in found):
            raise Invalid
        return found

    return Kind("a list of name=value", parse)


def expressions() -> Kind:
    """A list of regular expressions."""

    def parse(raw: object) -> tuple[str, ...]:
        found = _listed(raw)
        for one in found:
            try:
                re.compile(one)
            except re.error as error:
                raise Invalid(f"{one!r} is none: {error}") from None
        return found

    return Kind("a list of regular expressions", parse)


def _listed(raw: object) -> tuple[str, ...]:
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except ValueError:
            raise Invalid("on the command line, give a JSON list") from None
    if not isinstance(raw, list | tuple):
        raise Invalid
    listed = cast("Sequence[object]", raw)
    if not all(isinstance(one, str) and one for one in listed):
        raise Invalid
    return tuple(cast("Sequence[str]", listed))


def names() -> Kind:
    """A list of names of environment variables; the values never enter the configuration."""

    def parse(raw: object) -> tuple[str, ...]:
        if isinstance(raw, str):
            try:
                raw = json.loads(raw) if raw.lstrip().startswith("[") else [part.strip() for part in raw.split(",")]
            except ValueError:
                raise Invalid from None
        if not isinstance(raw, list | tuple):
            raise Invalid
        listed = cast("Sequence[object]", raw)
        if not all(isinstance(name, str) and _VARIABLE.fullmatch(name) for name in listed):
            raise Invalid("give only the names: each value is taken from the environment of `up`")
        return tuple(dict.fromkeys(cast("Sequence[str]", listed)))

    return Kind("a list of names of environment variables", parse, shown=False)
