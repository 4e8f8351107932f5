"""Projects, approvals and orders: what the city's institutions do."""
