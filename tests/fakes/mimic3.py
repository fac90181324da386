"""MIMIC-III as its users have it in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import psycopg

from tests.fakes.databases import postgresql_cluster

# The standard schema (mimic-code, buildmimic/postgres), as far as it is read and a little further.
SCHEMA = {
    "admissions": "row_id INT, subject_id INT, hadm_id INT, admittime TIMESTAMP(0), "
    "admission_type VARCHAR(50), ethnicity VARCHAR(200), diagnosis VARCHAR(255)",
    "patients": "row_id INT, subject_id INT, gender VARCHAR(5), dob TIMESTAMP(0)",
    "diagnoses_icd": "row_id INT, subject_id INT, hadm_id INT, icd9_code VARCHAR(10)",
    "labevents": "subject_id INT, hadm_id INT, itemid INT, charttime TIMESTAMP(0), "
    "value VARCHAR(200), valuenum DOUBLE PRECISION, valueuom VARCHAR(20)",
    "chartevents": "subject_id INT, hadm_id INT, itemid INT, charttime TIMESTAMP(0), "
    "valuenum DOUBLE PRECISION, valueuom VARCHAR(50), error INT",
}


@contextmanager
def mimic3_in_postgresql(folder: Path) -> Iterator[str]:
    """The URL of a cluster with PhysioNet's files from `folder`, their text as it is written."""
    with postgresql_cluster() as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA mimiciii")
        for name, columns in SCHEMA.items():
            connection.execute(f"CREATE TABLE mimiciii.{name} ({columns})")
            wanted = [column.split()[0] for column in columns.split(", ")]
            table = pd.read_csv(folder / f"{name.upper()}.csv.gz", dtype=str)[wanted]
            text = table.to_csv(index=False, header=False)
            with connection.cursor().copy(f"COPY mimiciii.{name} FROM STDIN (FORMAT csv)") as rows:
                rows.write(text)
        yield url
