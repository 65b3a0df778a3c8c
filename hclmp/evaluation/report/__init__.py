"""The page of results: what it draws, what it says in words, and how it is put together."""
