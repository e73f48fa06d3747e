"""What the agent does: facts into the ledger, the registry's only writer, release, replay, pruning, the fleet."""
