"""HealthChain, in an environment of its own: it pins other versions of what this project uses.

The environment is made once, under var/benchmarks, from requirements whose files are pinned by
their digests; another set of requirements makes another environment.
"""

from __future__ import annotations

import hashlib
import subprocess
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.subjects import ROOT, Subject, free_port, running

NAME = "HealthChain 0.15"
PLAIN = "HealthChain 0.15, as installed"
REQUIREMENTS = Path(__file__).with_name("requirements-healthchain.txt")
APPLICATION = Path(__file__).with_name("healthchain_app.py")
INSTALL_SECONDS = 900


class CannotBeInstalled(RuntimeError):
    """The environment could not be made; the message is what pip said last."""


def environment() -> Path:
    """The environment's Python; takes a minute the first time. Raises CannotBeInstalled."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = ROOT / "var" / "benchmarks" / f"healthchain-{digest}"
    python, complete = folder / "bin" / "python", folder / "complete"
    if complete.exists():
        return python
    install = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    try:
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run(
            [*install, "--require-hashes", "-r", str(REQUIREMENTS)],
            check=True,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as fault:
        said = (getattr(fault, "stderr", None) or str(fault)).strip()
        raise CannotBeInstalled(said.splitlines()[-1] if said else str(fault)) from fault
    complete.touch()
    return python


@contextmanager
def healthchain(
    folder: Path, core: int | None, artifact: Path, *, plain: bool = False
) -> Iterator[Subject]:
    """HealthChain with the model of `artifact`, running. Raises CannotBeInstalled.

    `plain`: as its example and its package have it, not tuned.
    """
    port = free_port()
    # -P: modules beside the application are this project's, and none of its business.
    arguments = [str(environment()), "-P", str(APPLICATION), "--port", str(port)]
    with running(
        PLAIN if plain else NAME,
        [*arguments, "--artifact", str(artifact), *(["--plain"] if plain else [])],
        port=port,
        folder=folder,
        core=core,
        path="/cds/cds-services/diabetes-risk",
    ) as subject:
        yield subject
