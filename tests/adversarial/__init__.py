"""Programs that try to cheat or to get out."""
