"""Tests of llmdiff.adapter."""
