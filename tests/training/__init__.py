"""Tests of llmdiff.training."""
