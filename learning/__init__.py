"""What one node does with a model and a chunk of data: the only room that knows torch."""
