"""Payment links: an address that a merchant gives to many, and that makes an invoice for each who pays."""
