"""Damaged files of every kind that llmdiff reads, made by number, and the readers that must take or refuse them."""
