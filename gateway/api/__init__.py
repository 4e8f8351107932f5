"""HTTP for programs: /v1."""
