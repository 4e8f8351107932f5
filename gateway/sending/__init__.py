"""The durable sender: what is to be done on a chain is queued in a database and done exactly once."""
