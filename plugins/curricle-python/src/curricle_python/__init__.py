"""Python as a language of curricle: how to break it, run it and judge it."""
