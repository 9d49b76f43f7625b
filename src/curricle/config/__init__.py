"""Configuration: what a project may set, typed, with its unit in the name."""
