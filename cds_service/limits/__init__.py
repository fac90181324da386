"""How much a caller may ask of the service at once, and for how long."""
