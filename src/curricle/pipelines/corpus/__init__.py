"""Corpus: ingest, clean, tokenizer, packed arrays per context length."""
