"""The shell: HTTP, SQL, settings and logging around the two cores. Nobody imports it."""
