"""The archive of the paper."""
