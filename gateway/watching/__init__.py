"""Watching a chain: from where it was left, whoever left it, until where the chain is now."""
