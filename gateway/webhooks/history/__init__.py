"""What became of a merchant's webhooks, and sending many of them again."""
