"""What only a GPU can show, as scripts for a bare checkout: torch and nothing else, no installs, no network."""
