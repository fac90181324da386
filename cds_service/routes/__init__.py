"""HTTP in, HTTP out: each module offers `router(parts)`."""
