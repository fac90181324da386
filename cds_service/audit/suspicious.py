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

# What no pattern does without, in ASCII, in lower case and without a percent sign: a text with none
# of these is an ordinary one, and nearly all are. Each begins with a character of its own, so that
# one pass over all texts of a call looks for all of them at once.
_SIGNS = re.compile(
    r"<|\{|\\|`|\$|\.\.|/etc/passwd"
    # White space other than a space, and what must not be in a header at all.
    r"|\x00|\t|\n|\x0b|\x0c|\r|\x1c|\x1d|\x1e|\x1f"
    r"|' {0,8}(?:or|and|--)|\" {0,8}(?:or|and)|_(?:sleep|cmdshell)| (?:all|select)"
    r"|:(?<=javascript:)|:(?<=jndi:)"
    r"|=(?<=onerror=)|=(?<=onload=)|=(?<=onclick=)|=(?<=onmouseover=)|=(?<= =)"
    r"|; {0,8}(?:drop|delete|insert|update|alter|truncate) "
    r"|; {0,8}(?:cat|curl|wget|bash|nc|ping) "
    r"|\| {0,8}(?:cat|curl|wget|bash|nc|ping) "
    r"|& {0,8}(?:cat|curl|wget|bash|nc|ping) "
)
# Between two texts: no part of a pattern, and no letter.
_APART = "\x01"

MOST_CHARACTERS = 2_000
_NONE: frozenset[str] = frozenset()


def suspicious(texts: Iterable[str]) -> frozenset[str]:
    """The kinds of attempt that `texts` look like, as they are and percent-decoded twice."""
    looked_at = [text[:MOST_CHARACTERS] for text in texts]
    if _ordinary(_APART.join(looked_at)):
        return _NONE
    forms = _APART.join({form for text in looked_at for form in _forms(text)})
    return frozenset(kind for kind, pattern in _COMPILED if pattern.search(forms))


def _ordinary(text: str) -> bool:
    """True only where no pattern is found. Outside of ASCII there is more white space, there are
    more digits, and three letters more that are an S, an I or a K in another case."""
    if not text.isascii() or "%" in text:
        return False
    return _SIGNS.search(text.replace("+", " ").lower()) is None


def _forms(text: str) -> set[str]:
    if "%" not in text and "+" not in text:
        return {text}
    # In a query a space is a plus; and a text that was encoded before comes encoded twice.
    once = unquote(text.replace("+", " "))
    return {text, once, unquote(once)}
