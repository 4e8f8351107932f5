"""A world of its own where merchants try out: its invoices are paid by a call, and no money is in it."""
