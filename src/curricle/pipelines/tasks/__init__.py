"""From a list of projects to verified bug tasks, one pipeline for each language."""
