"""Tests of llmdiff.training.data."""
