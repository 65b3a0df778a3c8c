"""Only what runs when."""
