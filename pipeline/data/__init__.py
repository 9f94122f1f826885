"""Text from a source to prepared data on disk, batches of it, and samples in the form of the source."""
