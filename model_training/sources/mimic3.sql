-- MIMIC-III to one row per admission. The same text runs on DuckDB, over PhysioNet's files, and on
-- PostgreSQL, over the standard schema: so no parameters (what is asked is put into small tables
-- first), no functions that only one of them has, and no fractions. Sums of floating-point numbers
-- depend on the order of adding them, which neither engine promises; values are therefore counted
-- in units of their last decimal, times in seconds, and sums are exact.

-- The tables that are put beforehand:
--   cds_window      opens_hours, closes_hours (after admission), own: 1, only what was recorded for
--                   the admission itself; 0, whatever its person has
--   cds_outcome     prefix: of the ICD-9 codes that are the outcome
--   cds_kept        admission, development: the cohort, and on which side of the split it lies
--   cds_item        itemid, lasting_days, from_age: what to read; lasting_days is 0, or for how long
--                   before the window a value is good, if it was measured at from_age or later
--   cds_reading     itemid, unit, value → series, scaled, copied: what each value means
--   cds_fence       series, low, high: where a series is winsorized
--   cds_ingredient  series: those that are wanted value by value

-- name: admissions
-- icd9_code has no dots. An admission without codes was never judged: its event is not known. The
-- numbers say nothing but the order of the identifiers, which end here.
CREATE TEMPORARY TABLE cds_admission AS
SELECT
  DENSE_RANK() OVER (ORDER BY a.subject_id, a.hadm_id) AS admission,
  DENSE_RANK() OVER (ORDER BY a.subject_id) AS person,
  a.subject_id,
  a.hadm_id,
  a.admittime,
  p.dob,
  w.own,
  a.admittime + w.opens_hours * INTERVAL '1 hour' AS opens,
  a.admittime + w.closes_hours * INTERVAL '1 hour' AS closes,
  CAST(
    EXTRACT(YEAR FROM a.admittime) - EXTRACT(YEAR FROM p.dob)
    - CASE
        WHEN EXTRACT(MONTH FROM a.admittime) * 100 + EXTRACT(DAY FROM a.admittime)
          < EXTRACT(MONTH FROM p.dob) * 100 + EXTRACT(DAY FROM p.dob)
        THEN 1 ELSE 0
      END AS INTEGER
  ) AS age,
  p.gender,
  a.ethnicity,
  a.admission_type,
  d.event
FROM mimiciii.admissions a
JOIN mimiciii.patients p ON p.subject_id = a.subject_id
CROSS JOIN cds_window w
LEFT JOIN (
  SELECT c.hadm_id, MAX(CASE WHEN o.prefix IS NULL THEN 0 ELSE 1 END) AS event
  FROM mimiciii.diagnoses_icd c
  LEFT JOIN cds_outcome o ON LEFT(c.icd9_code, LENGTH(o.prefix)) = o.prefix
  WHERE c.icd9_code IS NOT NULL
  GROUP BY c.hadm_id
) d ON d.hadm_id = a.hadm_id

-- name: people
SELECT admission, person, age, gender, ethnicity, admission_type, event
FROM cds_admission
ORDER BY admission

-- name: events
CREATE TEMPORARY TABLE cds_event (
  admission BIGINT, itemid BIGINT, seconds BIGINT, value DOUBLE PRECISION, unit VARCHAR,
  erroneous INTEGER
)

-- name: recorded
-- Of LABEVENTS and of CHARTEVENTS alike, which are put for {table}; only the latter marks errors.
-- The large table first, and what thins it out most next: DuckDB joins in the order of the text.
-- Before admission the laboratory's rows belong to no admission, or to an earlier one: so they are
-- found by person and time.
INSERT INTO cds_event
SELECT
  a.admission,
  i.itemid,
  CAST(EXTRACT(EPOCH FROM (e.charttime - a.admittime)) AS BIGINT) AS seconds,
  e.valuenum AS value,
  COALESCE(e.valueuom, '') AS unit,
  {erroneous} AS erroneous
FROM mimiciii.{table} e
JOIN cds_item i ON i.itemid = e.itemid
JOIN cds_admission a ON a.subject_id = e.subject_id
JOIN cds_kept k ON k.admission = a.admission
WHERE e.valuenum IS NOT NULL
  AND e.charttime < a.closes
  AND (
    (e.charttime >= a.opens AND (a.own = 0 OR e.hadm_id = a.hadm_id))
    OR (
      i.lasting_days > 0
      AND e.charttime >= a.closes - i.lasting_days * INTERVAL '1 day'
      AND e.charttime >= a.dob + i.from_age * INTERVAL '1 year'
    )
  )

-- name: values
SELECT itemid, unit, value, erroneous, COUNT(*) AS n
FROM cds_event
GROUP BY itemid, unit, value, erroneous

-- name: measurements
-- The same result at the same second is one result. Copies count where nothing else does.
CREATE TEMPORARY TABLE cds_measurement AS
SELECT admission, series, seconds, scaled
FROM (
  SELECT
    admission, series, seconds, scaled, copied,
    MIN(copied) OVER (PARTITION BY admission, series) AS best
  FROM (
    SELECT DISTINCT e.admission, r.series, e.seconds, r.scaled, r.copied
    FROM cds_event e
    JOIN cds_reading r ON r.itemid = e.itemid AND r.unit = e.unit AND r.value = e.value
    WHERE e.erroneous = 0
  ) once
) ranked
WHERE copied = best

-- name: statistics
-- Of several results at the last moment the greatest is the latest, as in fhir_mapping.selection.
SELECT
  admission,
  series,
  COUNT(*) AS n,
  MIN(scaled) AS least,
  MAX(scaled) AS greatest,
  MAX(scaled) FILTER (WHERE seconds = newest) AS latest,
  MIN(seconds) AS first_second,
  MAX(seconds) AS last_second,
  CAST(SUM(scaled) AS BIGINT) AS total,
  CAST(SUM(seconds) AS BIGINT) AS total_seconds,
  CAST(SUM(seconds * seconds) AS BIGINT) AS total_squares,
  CAST(SUM(seconds * scaled) AS BIGINT) AS total_products
FROM (
  SELECT
    m.admission,
    m.series,
    m.seconds,
    LEAST(GREATEST(m.scaled, COALESCE(f.low, m.scaled)), COALESCE(f.high, m.scaled)) AS scaled,
    MAX(m.seconds) OVER (PARTITION BY m.admission, m.series) AS newest
  FROM cds_measurement m
  CROSS JOIN cds_window w
  LEFT JOIN cds_fence f ON f.series = m.series
  WHERE m.seconds >= w.opens_hours * 3600 AND m.seconds < w.closes_hours * 3600
) inside
GROUP BY admission, series
ORDER BY admission, series

-- name: ingredients
SELECT m.admission, m.series, m.seconds, m.scaled
FROM cds_measurement m
JOIN cds_ingredient i ON i.series = m.series
ORDER BY m.admission, m.series, m.seconds, m.scaled

-- name: histogram
SELECT m.series, m.scaled, k.development, COUNT(*) AS n
FROM cds_measurement m
JOIN cds_kept k ON k.admission = m.admission
CROSS JOIN cds_window w
WHERE m.seconds >= w.opens_hours * 3600 AND m.seconds < w.closes_hours * 3600
GROUP BY m.series, m.scaled, k.development
ORDER BY m.series, m.scaled, k.development
