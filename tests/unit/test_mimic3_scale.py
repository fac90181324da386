"""The benchmark's enlarged demo is the demo: more patients, the same rows."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd

from benchmarks.mimic3_scale import TABLES, write_times

ROWS = {
    "ADMISSIONS": "row_id,subject_id,hadm_id,admittime,diagnosis\n1,10,100,2150-01-01,SEPSIS\n",
    "PATIENTS": "row_id,subject_id,gender\n1,10,F\n2,11,M\n",
    "DIAGNOSES_ICD": "row_id,subject_id,hadm_id,seq_num,icd9_code\n1,10,100,1,25000\n",
    "LABEVENTS": "row_id,subject_id,hadm_id,itemid,valuenum\n1,10,,50931,99\n2,10,100,50931,98\n",
    "CHARTEVENTS": '"row_id","subject_id","hadm_id","itemid","value"\n1,10,100,51,"120"\n'
    '2,11,101,51,"a, b"\n',
}


def test_each_copy_has_patients_and_admissions_of_its_own(tmp_path: Path) -> None:
    demo, folder = tmp_path / "demo", tmp_path / "large"
    demo.mkdir()
    folder.mkdir()
    for table, text in ROWS.items():
        (demo / f"{table}.csv.gz").write_bytes(gzip.compress(text.encode()))
    rows = write_times(demo, folder, 3)
    for table in TABLES:
        once = pd.read_csv(demo / f"{table}.csv.gz")
        often = pd.read_csv(folder / f"{table}.csv.gz")
        assert len(often) == 3 * len(once)
        rest = [name for name in once if name not in ("subject_id", "hadm_id")]
        pd.testing.assert_frame_equal(
            often[rest], pd.concat([once[rest]] * 3, ignore_index=True), check_dtype=False
        )
        assert often["subject_id"].nunique() == 3 * once["subject_id"].nunique()
    assert rows == 6
