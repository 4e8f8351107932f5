"""What a merchant may see of its webhooks."""
