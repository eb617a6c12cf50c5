"""The process that holds the queue: door, admission, queue, ledger, retries, shutdown."""
