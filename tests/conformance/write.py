"""`python -m tests.conformance.write`: write docs/conformance.md anew from the tests."""

from __future__ import annotations

import sys

from tests.conformance.document import DOCUMENT, faults, proofs, read_rows, render


def main() -> int:
    """Writes the document, or says which rows lack a test and leaves it as it was."""
    rows, proven = read_rows(), proofs()
    if said := faults(rows, proven):
        sys.stderr.write("\n".join(said) + "\n")
        return 1
    DOCUMENT.write_text(render(rows, proven), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
