"""Tests of `llmdiff.explanation`."""
