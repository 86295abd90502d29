"""Secrets are masked before anything is shown: by the name under which a value stands, or by what it looks like."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import cast

from pydantic import JsonValue

MASK = "•••"
KEYS = (
    r"(?i)(password|passwd|passphrase|secret|authorization|credential|api[_-]?key|private[_-]?key|cookie)",
    r"(?i)(^|[_-])(token|pwd|cvv|iban)$",
)
"""Names whose values are never shown, whatever they are."""
VALUES = (
    r"(?i)\bbearer\s+[\w.~+/=-]{8,}",
    r"\bsk-[A-Za-z0-9_-]{16,}",
    r"\bAKIA[0-9A-Z]{16}\b",
    r"\bgh[pousr]_[A-Za-z0-9]{20,}",
    r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(-----END [A-Z ]*PRIVATE KEY-----)?",
    r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)",
)
"""What a secret looks like wherever it stands: keys of providers, tokens, passwords in addresses."""


class Masks:
    """The rules above and a deployment's own, all regular expressions."""

    def __init__(self, keys: Sequence[str] = (), values: Sequence[str] = ()) -> None:
        self._keys = [re.compile(key) for key in (*KEYS, *keys)]
        self._values = [re.compile(value) for value in (*VALUES, *values)]

    def value(self, value: JsonValue) -> JsonValue:
        """The value without its secrets; also of those in JSON that stands in a text, as tools' arguments may."""
        if isinstance(value, dict):
            return {self.text(name): MASK if self._hides(name, one) else self.value(one) for name, one in value.items()}
        if isinstance(value, list):
            return [self.value(one) for one in value]
        if not isinstance(value, str):
            return value
        if value[:1] in "{[" and value[-1:] in "}]":
            try:
                inner = cast("JsonValue", json.loads(value))
            except ValueError:
                return self.text(value)
            masked = self.value(inner)
            return value if masked == inner else json.dumps(masked, ensure_ascii=False)
        return self.text(value)

    def text(self, text: str) -> str:
        """A text without what looks like a secret."""
        for pattern in self._values:
            text = pattern.sub(MASK, text)
        return text

    def _hides(self, name: str, value: JsonValue) -> bool:
        return value not in (None, "", [], {}) and any(pattern.search(name) for pattern in self._keys)
