"""Tests of llmdiff.data."""
