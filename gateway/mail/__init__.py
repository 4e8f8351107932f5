"""Letters to merchants: put into an outbox with what they tell, and sent by SMTP, at least once."""
