"""Where people come from: NHANES, MIMIC-III, a Bulk Data export; each read to a Dataset."""
