"""The payments service: outside both regions, with a durable ledger that applies each idempotency key once."""
