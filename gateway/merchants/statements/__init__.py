"""Statements: what came for a merchant, line by line, as the evidence says."""
