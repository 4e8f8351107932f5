"""City fees: what a resident can be billed for (P8)."""
