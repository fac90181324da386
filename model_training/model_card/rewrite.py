"""A published version's card written anew, when its sentences or their wording have changed.

`python -m model_training.model_card.rewrite model_artifacts/<model>/<version>` takes the sentences
from the recipe's <recipe>.card.toml and the figures from the folder's own manifest and report. What
scores stays byte for byte: nothing is trained.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from model_training.dataset import DatasetError
from model_training.model_card import model_card, model_card_json
from model_training.model_card.evidence import REPORT_FIGURES, Json
from model_training.model_card.quote import ARTIFACTS
from model_training.publish import Held, json_bytes, publish, seal
from risk_model.manifest import ArtifactError
from risk_model.verify import read_verified

_RECIPES = Path(__file__).parents[1] / "recipes"
_REPORT_FORMAT = 2


def rewritten(folder: Path, statements: Json) -> dict[str, bytes]:
    """The folder's files with a new MODEL_CARD.md and model_card.json, sealed again.

    Raises ArtifactError where the folder is not as its manifest says, and DatasetError where its
    report is of a format that cards are not made from.
    """
    verified = read_verified(folder)
    manifest = verified.manifest.raw
    report = verified.json(REPORT_FIGURES) if REPORT_FIGURES in verified.contents else {}
    if report.get("format") != _REPORT_FORMAT:
        raise DatasetError(
            f"{folder / REPORT_FIGURES} is not of format {_REPORT_FORMAT}: train the model again."
        )
    cards = {
        "MODEL_CARD.md": model_card(manifest, report, statements).encode(),
        "model_card.json": json_bytes(model_card_json(manifest, report, statements)),
    }
    return seal({**verified.contents, **cards}, manifest)


def main(arguments: list[str]) -> int:
    try:
        folder = Path(arguments[0]).resolve()
        name, version = folder.parent.name, folder.name
        files = rewritten(folder, _statements(name))
        done = publish(files, folder.parents[1], name, version, results=())
    except (DatasetError, ArtifactError) as fault:
        sys.stderr.write(f"{fault}\n")
        return 2
    except IndexError:
        sys.stderr.write(f"Name a folder, such as {ARTIFACTS.name}/<model>/<version>.\n")
        return 2
    if isinstance(done, Held):
        sys.stderr.write("\n".join(done.reasons) + "\n")
        return 1
    return 0


def _statements(name: str) -> Json:
    path = _RECIPES / f"{name.replace('-', '_')}.card.toml"
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as fault:
        raise DatasetError(f"{path} cannot be read: {fault.strerror}.") from fault
    except tomllib.TOMLDecodeError as fault:
        raise DatasetError(f"{path} is not TOML: {fault}.") from fault


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
