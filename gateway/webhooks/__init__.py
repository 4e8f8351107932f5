"""Webhooks: events leave by an outbox, signed, in order for each invoice, at least once."""
