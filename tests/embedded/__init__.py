"""Tests of llmdiff.embedded."""
