"""What was looked into on development people only: each study gives one section of the report."""
