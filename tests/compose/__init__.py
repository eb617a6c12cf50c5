"""The containers, in a real engine: `make test-compose`. A plain `make test` leaves them out, and needs no engine."""
