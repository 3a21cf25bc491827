"""Tests of llmdiff.language."""
