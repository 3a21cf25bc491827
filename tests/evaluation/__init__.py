"""Tests of llmdiff.evaluation."""
