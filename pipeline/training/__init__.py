"""The training loop with validation, checkpoints and sharding."""
