"""Attempts that look like injection, for a mark in the audit row.

Nothing is blocked by them: the parser takes or refuses the request by its own rules, and nothing
of a request is ever a piece of SQL, a template or a path here. The mark is for whoever reads the
audit log. Only identifiers, headers and addresses are looked at, never clinical text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

# Kind -> what it looks like. No pattern nests a repetition in another: time stays linear.
PATTERNS: tuple[tuple[str, str], ...] = (
    ("sql", r"['\"]\s{0,8}\b(?:or|and)\b\s{0,8}['\"\d(]"),
    ("sql", r";\s{0,8}(?:drop|delete|insert|update|alter|truncate)\s"),
    ("sql", r"\bunion\s{1,8}(?:all\s{1,8})?select\b|\bpg_sleep\b|\bxp_cmdshell\b|'\s{0,8}--"),
    ("script", r"<\s{0,8}/?(?:script|img|svg|iframe|object|embed|body)\b"),
    ("script", r"\bjavascript:|\bon(?:error|load|click|mouseover)\s{0,8}="),
    ("template", r"\{\{|\{%|<%|#\{|\$\{"),
    ("traversal", r"\.\.[/\\]|[/\\]\.\.|%2e%2e|%252e|/etc/passwd|\\windows\\"),
    ("crlf", r"[\r\n]|%0d|%0a"),
    ("null", r"\x00|%00"),
    ("jndi", r"\bjndi:|\$\{(?:lower|upper|env|sys|::-)"),
    ("command", r"\$\(|`|[;|&]\s{0,8}(?:cat|curl|wget|bash|nc|ping)\s"),
)
_COMPILED = tuple((kind, re.compile(text, re.IGNORECASE)) for kind, text in PATTERNS)

MOST_CHARACTERS = 2_000


def suspicious(texts: Iterable[str]) -> frozenset[str]:
    """The kinds of attempt that `texts` look like, as they are and percent-decoded twice."""
    forms = {form for text in texts for form in _forms(text[:MOST_CHARACTERS])}
    return frozenset(
        kind for kind, pattern in _COMPILED if any(pattern.search(form) for form in forms)
    )


def _forms(text: str) -> set[str]:
    if "%" not in text and "+" not in text:
        return {text}
    # In a query a space is a plus; and a text that was encoded before comes encoded twice.
    once = unquote(text.replace("+", " "))
    return {text, once, unquote(once)}
