"""Encoders of pairs."""
