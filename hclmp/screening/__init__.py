"""What to make next: candidates, goals and their ranking."""
