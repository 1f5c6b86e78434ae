"""The task queues that `field` compares, one module each, at their best documented settings."""
