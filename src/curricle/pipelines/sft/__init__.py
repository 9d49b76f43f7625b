"""Supervised fine-tuning: conversations from real functions, and requests to refuse."""
