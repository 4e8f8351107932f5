"""Invoices and what pays them."""
