"""Everything the city's databases hold, out and in again: nothing is locked in (field failure 54)."""
