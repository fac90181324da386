"""Past assessments computed again, on SQLite and on PostgreSQL: the same bits, or a report."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from fhir.resources.R4B.auditevent import AuditEvent
from typer.testing import CliRunner, Result

from cds_service.audit.export import Format, export
from cds_service.audit.verify import verify
from cds_service.cli import program
from cds_service.demo.patients import demo_patients
from cds_service.demo.prefetch import resolve_prefetch
from cds_service.errors import StoreUnavailable
from cds_service.inputs import FORMAT
from cds_service.metrics import new_metrics
from cds_service.parts import Parts
from cds_service.replay import Cannot, Difference, Differs, Nothing, Same, compared, titles_of
from cds_service.replay import replay as replay_record
from cds_service.store import AssessmentRecord, Store, assessment_ids
from cds_service.store.schema import assessment
from risk_model import load_model
from tests.conftest import NOW, ROOT
from tests.fakes.databases import POSTGRESQL_MISSING, postgresql_binaries, postgresql_cluster
from tests.fakes.records import NOON, an_assessment, an_audit_entry, an_id
from tests.fhir import observation, searchset
from tests.service import INSTANCE, Service, patient_view, prefetch

MODELS = ROOT / "model_artifacts"
KEPT = Path(__file__).parents[1] / "payloads" / "assessments"
POSTGRESQL = pytest.param(
    "postgresql",
    marks=[
        pytest.mark.skipif(postgresql_binaries() is None, reason=POSTGRESQL_MISSING),
        pytest.mark.xdist_group("postgresql"),
    ],
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with postgresql_cluster() as url:
        yield url


@pytest.fixture(params=["sqlite", POSTGRESQL])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/cds.db"
    cluster = sa.make_url(request.getfixturevalue("cluster")).set(drivername="postgresql+psycopg")
    database = f"t{an_id().replace('-', '')}"
    engine = sa.create_engine(cluster, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {database}")
    engine.dispose()
    return cluster.set(drivername="postgresql", database=database).render_as_string()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A service and the operator's command, over one store."""

    service: Service
    url: str

    @property
    def store(self) -> Store:
        return self.service.parts.store

    def run(self, *arguments: str, models: Path = MODELS) -> Result:
        environment = {"CDS_DATABASE_URL": self.url, "CDS_MODEL_DIR": str(models), "COLUMNS": "200"}
        return CliRunner().invoke(program, ["replay", *arguments], env=environment)

    def objects(self, *arguments: str, models: Path = MODELS) -> list[dict[str, Any]]:
        result = self.run("--json", *arguments, models=models)
        return [json.loads(line) for line in result.stdout.splitlines()]

    def one(self) -> AssessmentRecord:
        (record,) = self.store.search(count=9)[1]
        return record

    def tamper(self, id: str, **values: Any) -> None:
        """What someone does who may write the table."""
        with self.writing() as connection:
            change = sa.update(assessment).where(assessment.c.id == id).values(values)
            assert connection.execute(change).rowcount == 1

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        url = sa.make_url(self.url)
        driver = "postgresql+psycopg" if url.drivername == "postgresql" else url.drivername
        engine = sa.create_engine(url.set(drivername=driver))
        with engine.begin() as connection:
            yield connection
        engine.dispose()


@pytest.fixture
def place(assembled: Parts, url: str) -> Iterator[Place]:
    # West of UTC, so that the day of the answer is another one than the store's.
    settings = replace(assembled.settings, time_zone=ZoneInfo("America/St_Johns"))
    parts = replace(assembled, settings=settings, store=Store.open(url), metrics=new_metrics())
    yield Place(service=Service.of(parts), url=url)
    parts.store.close()


@pytest.fixture
def scored(place: Place) -> Place:
    """One assessment in the store."""
    assert place.service.call(patient_view()).status_code == 200
    return place


def call_about_everybody(place: Place) -> int:
    """Every demo patient; how many were scored."""
    for number, person in enumerate(demo_patients(NOW)):
        templates = place.service.parts.services["diabetes-risk"].prefetch
        context = {"userId": "Practitioner/1", "patientId": person.id}
        if number % 2:
            context["encounterId"] = f"e{number}"
        body = patient_view(
            hookInstance=an_id(),
            context=context,
            prefetch=resolve_prefetch(dict(templates), person.resources),
        )
        assert place.service.call(body).status_code == 200
    return place.service.stored()


# The same ------------------------------------------------------------------------------------


def test_every_demo_patient_gets_the_same_bits(place: Place) -> None:
    count = call_about_everybody(place)
    assert count > 5
    result = place.run("--all")
    assert result.exit_code == 0, result.output
    assert f"{count} assessments: {count} the same, 0 differ, 0 cannot" in result.stdout
    assert [one["outcome"] for one in place.objects("--all")] == ["same"] * count


def test_one_is_found_by_its_id_and_the_look_is_on_record(scored: Place) -> None:
    record = scored.one()
    result = scored.run(record.id)
    assert result.exit_code == 0, result.output
    assert "The same, bit for bit." in result.stdout
    assert record.probability.hex() in result.stdout
    (entry, *_) = scored.store.audit_trail(count=1)
    assert (entry.action, entry.outcome, entry.status) == ("replay", "replayed:same", 200)
    assert (entry.resource_id, entry.patient_id) == (record.id, "p1")
    assert (entry.model, entry.model_version) == (record.model, record.model_version)
    assert entry.user is not None
    assert entry.user.startswith("operator:")
    assert verify(scored.store).rows == 2


def test_an_audit_event_of_a_replay_is_valid(scored: Place) -> None:
    scored.run(scored.one().id)
    lines = export(
        scored.store, start=None, end=None, format=Format.FHIR, now=NOW, user="operator:x"
    )
    events = [json.loads(line) for line in lines]
    (event,) = [e for e in events if e["subtype"][0]["code"] == "replay"]
    AuditEvent.model_validate(event)
    assert event["subtype"][0]["system"] == "urn:cds-service:audit-action"


def test_every_assessment_of_one_call_is_replayed(scored: Place) -> None:
    changed = prefetch(observations=searchset(observation("2345-7", 99, "mg/dL")))
    scored.service.call(patient_view(prefetch=changed))
    ids = [record.id for record in scored.store.assessment_of_call(INSTANCE)]
    assert len(ids) == 2
    found = scored.objects("--hook-instance", INSTANCE)
    assert [(one["id"], one["outcome"]) for one in found] == [(id, "same") for id in ids]


def test_a_call_that_repeats_an_earlier_one_leads_to_what_is_stored(scored: Place) -> None:
    again = an_id()
    scored.service.call(patient_view(hookInstance=again))
    (found,) = scored.objects("--hook-instance", again)
    assert (found["id"], found["outcome"]) == (scored.one().id, "same")


def test_one_that_follows_another_is_the_same_too(scored: Place) -> None:
    changed = prefetch(observations=searchset(observation("2345-7", 99, "mg/dL")))
    scored.service.call(patient_view(hookInstance=an_id(), prefetch=changed))
    followers = [r for r in scored.store.search(count=9)[1] if r.follows]
    assert len(followers) == 1
    assert "parent" in followers[0].resource
    assert scored.run(followers[0].id).exit_code == 0


# What differs --------------------------------------------------------------------------------


def edited(value: dict[str, Any], *path: Any, to: Any) -> dict[str, Any]:
    """A copy with one member changed."""
    copy: Any = json.loads(json.dumps(value))
    inner = copy
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = to
    return copy  # type: ignore[no-any-return]


def _one_bit(record: AssessmentRecord) -> dict[str, Any]:
    return {"probability": math.nextafter(record.probability, 1)}


def _relative_risk(record: AssessmentRecord) -> dict[str, Any]:
    return {"resource": edited(record.resource, "prediction", 0, "relativeRisk", to=1.5)}


def _contribution(record: AssessmentRecord) -> dict[str, Any]:
    path = ("prediction", 0, "extension", 1, "extension", -1, "valueDecimal")
    return {"resource": edited(record.resource, *path, to=0.25)}


def _basis(record: AssessmentRecord) -> dict[str, Any]:
    return {"resource": edited(record.resource, "basis", to=record.resource["basis"][:-1])}


def _mitigation(record: AssessmentRecord) -> dict[str, Any]:
    return {"resource": edited(record.resource, "mitigation", to="Nothing to be done")}


def _stranger(record: AssessmentRecord) -> dict[str, Any]:
    return {"resource": edited(record.resource, "note", to=[{"text": "x"}])}


def _age(record: AssessmentRecord) -> dict[str, Any]:
    return {"inputs": edited(record.inputs, "age", to=9)}


def _implausible(record: AssessmentRecord) -> dict[str, Any]:
    return {"inputs": edited(record.inputs, "features", "glucose", "value", to=1e6)}


CHANGED: dict[str, tuple[Callable[[AssessmentRecord], dict[str, Any]], set[str], bool]] = {
    "probability": (_one_bit, {"probability"}, True),
    "level": (lambda _: {"level": "low"}, {"level"}, True),
    "relative risk": (_relative_risk, {"resource.prediction[0].relativeRisk"}, True),
    "basis": (_basis, {"resource.basis[1]"}, True),
    "mitigation": (_mitigation, {"resource.mitigation"}, True),
    "a member that nobody wrote": (_stranger, {"resource.note"}, True),
    "moment": (lambda _: {"as_of": NOON}, {"resource.occurrenceDateTime"}, True),
    "encounter": (lambda _: {"encounter_id": "e9"}, {"resource.encounter"}, True),
    "the one before": (lambda _: {"follows": "x"}, {"follows"}, True),
    "identifier": (
        lambda _: {"identifier": "x"},
        {"identifier", "id", "resource.identifier[0].value"},
        False,
    ),
    "patient": (
        lambda _: {"patient_id": "p9"},
        {"identifier", "resource.subject.reference"},
        False,
    ),
    "origin": (lambda _: {"origin": "elsewhere"}, {"identifier"}, False),
    "a child": (_age, {"outcome"}, True),
    "a value that no model is given": (_implausible, {"identifier", "outcome"}, False),
}


@pytest.mark.parametrize("what", CHANGED)
def test_what_was_changed_by_hand_is_what_is_reported(scored: Place, what: str) -> None:
    change, paths, is_named_so = CHANGED[what]
    record = scored.one()
    scored.tamper(record.id, **change(record))
    (found,) = scored.objects(record.id)
    assert found["outcome"] == "differs"
    assert {difference["path"] for difference in found["differences"]} == paths
    assert found["inputs_as_named"] is is_named_so
    assert scored.run(record.id).exit_code == 1


def test_a_changed_contribution_is_named_by_its_place(scored: Place) -> None:
    record = scored.one()
    scored.tamper(record.id, **_contribution(record))
    (found,) = scored.objects(record.id)
    (difference,) = found["differences"]
    assert difference["path"].startswith("resource.prediction[0].extension[1].extension[")
    assert difference["stored"] == 0.25


def test_a_changed_input_shows_in_the_name_and_in_all_that_follows_from_it(scored: Place) -> None:
    record = scored.one()
    changed = edited(record.inputs, "features", "glucose", "value", to=99.0)
    scored.tamper(record.id, inputs=changed)
    (found,) = scored.objects(record.id)
    by_path = {difference["path"]: difference for difference in found["differences"]}
    assert not found["inputs_as_named"]
    assert by_path["probability"]["stored"] == record.probability
    assert by_path["probability"]["now"] < record.probability
    assert {"identifier", "resource.prediction[0].probabilityDecimal"} <= by_path.keys()
    values = [d["stored"] for p, d in by_path.items() if p.endswith("valueQuantity.value")]
    assert 141 in values
    shown = scored.run(record.id).stdout
    assert "are not those that the identifier was made from" in shown
    assert record.probability.hex() in shown


def test_control_characters_of_a_record_do_not_reach_the_terminal(scored: Place) -> None:
    record = scored.one()
    hostile = edited(record.resource, "status", to="\x1b[2Jfinal\x9b")
    scored.tamper(record.id, resource=hostile)
    shown = scored.run(record.id).stdout
    assert "[2Jfinal" in shown
    assert not {"\x1b", "\x9b"} & set(shown)


@pytest.mark.parametrize(
    ("stored", "now", "same"),
    [
        (1.0, 1.0, True),
        (0.0, -0.0, False),
        (1, 1.0, False),
        (True, 1, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ([1, 2], [2, 1], False),
        ({"a": None}, {}, False),
        (math.nan, math.nan, True),
    ],
)
def test_the_same_means_the_same_bits(stored: Any, now: Any, same: bool) -> None:
    assert (list(compared("x", stored, now)) == []) is same


def test_what_is_on_one_side_only_is_told_from_null() -> None:
    assert list(compared("x", {"a": None}, {})) == [
        Difference(path="x.a", stored=None, now=Nothing.THERE)
    ]


# What cannot be computed again ---------------------------------------------------------------


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A copy of the artifacts, to be damaged."""
    return Path(shutil.copytree(MODELS, tmp_path / "models"))


def test_a_model_version_that_is_gone_is_said(scored: Place, models: Path) -> None:
    shutil.rmtree(models / "diabetes-undiagnosed" / "2.0.0")
    result = scored.run(scored.one().id, models=models)
    assert result.exit_code == 2
    assert "Model diabetes-undiagnosed 2.0.0 is not there:" in result.stdout
    assert scored.store.audit_trail(count=1)[0].outcome == "replayed:cannot"


@pytest.mark.parametrize("file", ["model.ubj", "calibration.json"])
def test_a_model_whose_bytes_have_changed_is_refused(
    scored: Place, models: Path, file: str
) -> None:
    path = models / "diabetes-undiagnosed" / "2.0.0" / file
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    result = scored.run(scored.one().id, models=models)
    assert result.exit_code == 2
    assert f"{file}: has sha256" in result.stdout


def test_a_model_exchanged_for_another_with_digests_of_its_own_differs(
    scored: Place, models: Path
) -> None:
    """Too little for the golden scores to notice, and enough for the bits."""
    folder = models / "diabetes-undiagnosed" / "2.0.0"
    calibration, manifest = folder / "calibration.json", folder / "manifest.json"
    said = json.loads(calibration.read_text())
    said["intercept"] += 1e-8
    calibration.write_text(json.dumps(said))
    entries = json.loads(manifest.read_text())
    content = calibration.read_bytes()
    entries["files"]["calibration.json"] = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
    }
    manifest.write_text(json.dumps(entries))
    (found,) = scored.objects(scored.one().id, models=models)
    assert found["inputs_as_named"]
    assert "probability" in {difference["path"] for difference in found["differences"]}


@pytest.mark.parametrize("name", ["..", ".", "/etc", "a/b", "diabetes-undiagnosed/../x", ""])
def test_a_row_cannot_lead_to_a_model_elsewhere(scored: Place, name: str) -> None:
    record = scored.one()
    scored.tamper(record.id, model=name)
    result = scored.run(record.id)
    assert result.exit_code == 2
    assert "which is no folder" in result.stdout


@pytest.mark.parametrize(
    "inputs", [7, [], {}, {"format": 2}, {"format": 3}, {"glucose": {"value": "x"}}]
)
def test_damaged_inputs_are_said(scored: Place, inputs: Any) -> None:
    record = scored.one()
    scored.tamper(record.id, inputs=inputs)
    result = scored.run(record.id)
    assert result.exit_code == 2
    assert "damaged" in result.stdout


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_row_that_is_no_json_does_not_keep_the_others_from_being_replayed(
    scored: Place,
) -> None:
    """On SQLite: PostgreSQL takes nothing that is no JSON."""
    damaged = scored.one().id
    changed = prefetch(observations=searchset(observation("2345-7", 99, "mg/dL")))
    scored.service.call(patient_view(hookInstance=an_id(), prefetch=changed))
    with scored.writing() as connection:
        cut = "UPDATE assessment SET resource = substr(resource, 1, 99) WHERE id = ?"
        connection.exec_driver_sql(cut, (damaged,))
    result = scored.run("--all")
    assert result.exit_code == 2
    assert "2 assessments: 1 the same, 0 differ, 1 cannot be computed again." in result.stdout
    assert scored.run("--hook-instance", INSTANCE).exit_code == 2


@pytest.mark.parametrize("arguments", [["nobody"], ["--hook-instance", "nobody"]])
def test_what_is_not_there_is_said_and_on_record(place: Place, arguments: list[str]) -> None:
    result = place.run(*arguments)
    assert result.exit_code == 2
    assert "There is no" in result.stdout
    assert place.store.audit_trail(count=1)[0].status == 404


@pytest.mark.parametrize("arguments", [["--all"], ["--hook-instance", INSTANCE]])
def test_what_cannot_be_put_on_record_is_not_shown(
    scored: Place, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(store: Store, entries: object) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(Store, "append_audit", unavailable)
    result = scored.run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [[], ["x", "--all"], ["--all", "--hook-instance", "x"], ["x", "--since", "2026-01-01"]],
)
def test_arguments_that_contradict_each_other_are_refused(arguments: list[str]) -> None:
    assert CliRunner().invoke(program, ["replay", *arguments]).exit_code == 2


# All of them ---------------------------------------------------------------------------------


def test_a_difference_weighs_more_than_what_cannot_be_told(scored: Place) -> None:
    changed = prefetch(observations=searchset(observation("2345-7", 99, "mg/dL")))
    scored.service.call(patient_view(hookInstance=an_id(), prefetch=changed))
    first, second = (record.id for record in scored.store.search(count=9)[1])
    scored.tamper(first, level="?")
    scored.tamper(second, inputs={})
    result = scored.run("--all")
    assert result.exit_code == 1
    assert "2 assessments: 0 the same, 1 differ, 1 cannot be computed again." in result.stdout
    looked_at = [e for e in scored.store.audit_trail(count=3) if e.action == "replay"]
    assert {entry.resource_id for entry in looked_at} == {None, first, second}


def test_all_since_a_day_are_those_received_on_it_or_later(scored: Place) -> None:
    assert len(scored.objects("--all", "--since", f"{NOW:%Y-%m-%d}")) == 1
    assert scored.objects("--all", "--since", "2026-11-21") == []


def test_pages_have_no_gap_and_no_repeat(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assessment_ids, "PAGE", 3)
    for number in range(10):
        # All but one at the same moment: the id decides.
        moment = NOON if number else datetime(2026, 1, 1, tzinfo=UTC)
        place.store.record(an_assessment(received_at=moment), [], an_audit_entry(), None)
    found = list(assessment_ids.oldest_first(place.store, since=None))
    assert sorted(found) == sorted(record.id for record in place.store.search(count=99)[1])
    assert len(set(found)) == assessment_ids.number(place.store, since=None) == 10
    assert len(list(assessment_ids.oldest_first(place.store, since=NOON))) == 9
    assert assessment_ids.number(place.store, since=NOON) == 9


# Rows that earlier versions have written -----------------------------------------------------


def kept_rows(name: str) -> list[AssessmentRecord]:
    rows = json.loads((KEPT / name).read_text(encoding="utf-8"))
    times = ("as_of", "received_at")
    return [
        AssessmentRecord(**row | {time: datetime.fromisoformat(row[time]) for time in times})
        for row in rows
    ]


@pytest.mark.parametrize(
    ("file", "left_out"),
    [("rows-of-0.1.0.json", ("resource.mitigation",)), (f"rows-of-format-{FORMAT}.json", ())],
)
def test_rows_of_every_version_are_the_same_today(file: str, left_out: tuple[str, ...]) -> None:
    """If this fails because the words of the resource have changed: see `replay._as_told`."""
    for record in kept_rows(file):
        model = load_model(MODELS / record.model / record.model_version)
        assert replay_record(record, model, titles_of(model)) == Same(left_out=left_out)


def leaves(value: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    """The way to every value that is no object and no list."""
    if isinstance(value, dict | list):
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, *path, step)
    else:
        yield path


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def another(value: Any) -> Any:
    """The nearest other value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, float):
        return math.nextafter(value, math.inf)
    return f"{value} " if isinstance(value, str) else 1 if value is None else value + 1


def test_a_change_of_any_member_of_the_resource_is_found_where_it_is() -> None:
    (record, *_) = kept_rows(f"rows-of-format-{FORMAT}.json")
    model = load_model(MODELS / record.model / record.model_version)
    titles = titles_of(model)
    paths = list(leaves(record.resource))
    assert len(paths) > 100
    for path in paths:
        changed = edited(record.resource, *path, to=another(at(record.resource, path)))
        found = replay_record(replace(record, resource=changed), model, titles)
        assert isinstance(found, Differs), path
        steps = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in path)
        assert [difference.path for difference in found.differences] == [f"resource{steps}"]


def test_a_change_of_any_value_that_was_scored_is_found() -> None:
    """Why an input was absent, and what a result is called, is not part of the name."""
    (record, *_) = kept_rows(f"rows-of-format-{FORMAT}.json")
    model = load_model(MODELS / record.model / record.model_version)
    titles = titles_of(model)
    present = {n: e for n, e in record.inputs["features"].items() if "absent" not in e}
    paths = [path for path in leaves(present, "features") if path[-1] != "title"]
    assert len(paths) > 30
    for path in paths:
        changed = edited(record.inputs, *path, to=another(at(record.inputs, path)))
        found = replay_record(replace(record, inputs=changed), model, titles)
        if isinstance(found, Differs):
            assert not found.is_named_so, path
        else:
            assert isinstance(found, Cannot), path


def test_a_row_of_0_1_0_that_was_changed_is_found() -> None:
    (record, *_) = kept_rows("rows-of-0.1.0.json")
    model = load_model(MODELS / record.model / record.model_version)
    changed = edited(record.inputs, "glucose", "value", to=record.inputs["glucose"]["value"] + 1)
    found = replay_record(replace(record, inputs=changed), model, titles_of(model))
    assert isinstance(found, Differs)
    assert not found.is_named_so
    assert found.left_out == ("resource.mitigation",)


def test_a_row_of_0_1_0_whose_model_no_longer_fits_the_catalog_cannot_be_told() -> None:
    (record, *_) = kept_rows("rows-of-0.1.0.json")
    model = load_model(MODELS / record.model / record.model_version)
    raw = edited(dict(model.manifest.raw), "features", 0, "concept", to="phlogiston")
    other = replace(model, manifest=replace(model.manifest, raw=raw))
    found = replay_record(record, other, titles_of(other))
    assert isinstance(found, Cannot)
    assert "phlogiston" in found.reason
