"""What the gateway pays gas for: payments that a payer signed, and flushes of deposit addresses."""
