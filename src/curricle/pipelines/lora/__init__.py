"""The task adapter: a question about code whose answer can be checked."""
